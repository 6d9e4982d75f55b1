//! The objects of a kind that changed since they were last looked at, by name.
//!
//! Names are gathered only while somebody follows, each once, so there are never more than objects.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The namespace and the name of an object.
pub(crate) type Name = (String, String);

#[derive(Default)]
struct Inner {
    /// Nothing while nobody follows.
    names: Mutex<Followers>,
    news: Notify,
}

#[derive(Default)]
struct Followers {
    /// Names the newest follower.
    number: u64,
    names: Option<BTreeSet<Name>>,
}

/// Where changes are put.
#[derive(Clone, Default)]
pub(crate) struct Dirty(Arc<Inner>);

impl Dirty {
    /// An object changed, or is to be looked at for another reason.
    pub(crate) fn put(&self, namespace: &str, name: &str) {
        let mut followers = self.lock();
        if let Some(names) = &mut followers.names {
            names.insert((namespace.to_owned(), name.to_owned()));
            drop(followers);
            self.0.news.notify_one();
        }
    }

    /// Follows from now on, in the place of whoever did before.
    pub(crate) fn follow(&self) -> Following {
        let mut followers = self.lock();
        followers.number += 1;
        followers.names = Some(BTreeSet::new());
        Following { dirty: self.clone(), number: followers.number }
    }

    fn lock(&self) -> MutexGuard<'_, Followers> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever takes the changes; they are gathered until this is dropped.
pub(crate) struct Following {
    dirty: Dirty,
    number: u64,
}

impl Following {
    /// Waits until there may be something to take.
    pub(crate) async fn news(&self) {
        self.dirty.0.news.notified().await;
    }

    /// Takes some of the names.
    pub(crate) fn take(&self, most: usize) -> Vec<Name> {
        let mut followers = self.dirty.lock();
        if followers.number != self.number {
            return Vec::new();
        }
        let Some(names) = &mut followers.names else { return Vec::new() };
        let taken = std::iter::from_fn(|| names.pop_first()).take(most).collect();
        if !names.is_empty() {
            self.dirty.0.news.notify_one();
        }
        taken
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followers = self.dirty.lock();
        if followers.number == self.number {
            followers.names = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_name_is_taken_once_and_what_is_left_is_news() {
        let dirty = Dirty::default();
        dirty.put("ns", "before");
        let following = dirty.follow();
        for name in ["a", "b", "a"] {
            dirty.put("ns", name);
        }
        assert!(following.news().now_or_never().is_some());
        assert_eq!(following.take(1), [("ns".to_owned(), "a".to_owned())]);
        assert!(following.news().now_or_never().is_some(), "there is more");
        assert_eq!(following.take(9), [("ns".to_owned(), "b".to_owned())]);
        assert!(following.news().now_or_never().is_none());
    }

    #[test]
    fn nothing_is_gathered_while_nobody_follows_and_the_newest_follower_has_it() {
        let dirty = Dirty::default();
        let first = dirty.follow();
        let second = dirty.follow();
        drop(first);
        dirty.put("ns", "a");
        assert_eq!(second.take(9).len(), 1);
        drop(second);
        dirty.put("ns", "b");
        assert!(dirty.lock().names.is_none());
    }
}
