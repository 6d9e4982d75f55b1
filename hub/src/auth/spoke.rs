//! Whether a request was signed by the key of a cluster, and only once.

use std::collections::HashMap;
use std::sync::Mutex;

use isthmus_shared::protocol::identity::{
    CLOCK_SKEW_SECONDS, Refusal, SpokeClaims, check_spoke_token, read_spoke_token,
};
use isthmus_shared::resources::Cluster;

/// The most tokens of one cluster that are remembered: far more than a spoke uses within the
/// 90 seconds of a token's life.
pub(crate) const MAX_REMEMBERED: usize = 8192;
/// The longest `jti`.
const MAX_ID: usize = 64;

/// A request that is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error(transparent)]
    Token(#[from] Refusal),
    #[error(
        "the spoke of cluster {cluster} sends more requests than the hub can tell apart ({MAX_REMEMBERED} in 90 s): look why it repeats itself; it may go on in a minute"
    )]
    TooMany { cluster: String },
}

/// The tokens that were used: each is good once.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Tokens from before are refused: what this hub did not see used, another may have.
    not_before: u64,
    seen: Mutex<HashMap<String, Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The time until which each `jti` is remembered, Unix seconds.
    ids: HashMap<String, u64>,
}

impl Gate {
    /// A gate that opens at `now`, Unix seconds.
    pub(crate) fn new(now: u64) -> Self {
        Self { not_before: now.saturating_sub(CLOCK_SKEW_SECONDS), seen: Mutex::default() }
    }

    /// The cluster that a token claims to be of: whose key is to check it.
    pub(crate) fn claimed(token: &str) -> Result<String, Refusal> {
        read_spoke_token(token).map(|claims| claims.sub)
    }

    /// Checks a token with the key of the record of the cluster that it claims to be of.
    pub(crate) fn admit(
        &self,
        token: &str,
        record: Option<&Cluster>,
        now: u64,
    ) -> Result<SpokeClaims, Denied> {
        let claimed = read_spoke_token(token)?;
        let Some(record) = record else {
            return Err(Refusal::UnknownCluster { cluster: claimed.sub }.into());
        };
        let key = record.status.as_ref().and_then(|status| status.public_key.as_deref());
        let Some(key) = key else { return Err(Refusal::UnknownKey { cluster: claimed.sub }.into()) };
        let claims = check_spoke_token(token, key, now)?;
        if claims.jti.is_empty() || claims.jti.len() > MAX_ID {
            let detail = "its id is missing or too long".to_owned();
            return Err(Refusal::Malformed { kind: "spoke token", detail }.into());
        }
        if claims.iat < self.not_before {
            let advice =
                "it was made before this hub began to lead; the spoke tries again by itself".to_owned();
            return Err(Refusal::Expired { kind: "spoke token", cluster: claims.sub, advice }.into());
        }
        self.once(&claims, now)?;
        Ok(claims)
    }

    /// By how many seconds the clock of whoever signed a token is ahead, as far as an answer of
    /// [`Self::admit`] lets that be known: its signature was right, and it was not sent a second time.
    pub(crate) fn clock_ahead(token: &str, admitted: &Result<SpokeClaims, Denied>, now: u64) -> Option<i64> {
        let issued = match admitted {
            Ok(claims) => claims.iat,
            Err(Denied::Token(Refusal::Expired { .. } | Refusal::FromTheFuture { .. })) => {
                read_spoke_token(token).ok()?.iat
            }
            Err(_) => return None,
        };
        Some(i64::try_from(issued).ok()?.saturating_sub(i64::try_from(now).ok()?))
    }

    fn once(&self, claims: &SpokeClaims, now: u64) -> Result<(), Denied> {
        let cluster = || claims.sub.clone();
        let Ok(mut seen) = self.seen.lock() else {
            // Poisoned by a panic: nothing can be told apart any more, so nothing is let in.
            return Err(Denied::TooMany { cluster: cluster() });
        };
        let ids = &mut seen.entry(cluster()).or_default().ids;
        if ids.len() >= MAX_REMEMBERED {
            ids.retain(|_, until| *until > now);
            if ids.len() >= MAX_REMEMBERED {
                return Err(Denied::TooMany { cluster: cluster() });
            }
        }
        let until = claims.exp.saturating_add(CLOCK_SKEW_SECONDS);
        match ids.insert(claims.jti.clone(), until) {
            None => Ok(()),
            Some(_) => Err(Refusal::Replayed { cluster: cluster() }.into()),
        }
    }

    /// Forgets what has expired.
    pub(crate) fn sweep(&self, now: u64) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.retain(|_, of_cluster| {
                of_cluster.ids.retain(|_, until| *until > now);
                !of_cluster.ids.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_shared::protocol::identity::SigningKey;
    use isthmus_shared::resources::{ClusterSpec, ClusterStatus};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn joined(key: &SigningKey) -> Cluster {
        let mut cluster = Cluster::new("east", ClusterSpec::default());
        cluster.status =
            Some(ClusterStatus { public_key: Some(key.public_base64()), ..ClusterStatus::default() });
        cluster
    }

    fn reason(denied: Denied) -> &'static str {
        match denied {
            Denied::Token(refusal) => refusal.reason(),
            Denied::TooMany { .. } => "TooMany",
        }
    }

    #[test]
    fn a_token_is_good_once() {
        let key = SigningKey::generate().unwrap();
        let (gate, east) = (Gate::new(NOW), joined(&key));
        let token = key.spoke_token("east", NOW).unwrap();
        assert_eq!(gate.admit(&token, Some(&east), NOW).unwrap().sub, "east");
        assert_eq!(gate.admit(&token, Some(&east), NOW + 80).map_err(reason), Err("Replayed"));
        let another = key.spoke_token("east", NOW).unwrap();
        assert!(gate.admit(&another, Some(&east), NOW).is_ok());
        gate.sweep(NOW + 91);
        assert!(gate.seen.lock().unwrap().is_empty());
    }

    #[test]
    fn each_wrong_token_gets_its_own_reason() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (gate, east) = (Gate::new(NOW), joined(&key));
        let admit =
            |token: &str, record: Option<&Cluster>, now| gate.admit(token, record, now).map_err(reason);
        let token = key.spoke_token("east", NOW).unwrap();
        assert_eq!(admit("nonsense", Some(&east), NOW).unwrap_err(), "TokenMalformed");
        assert_eq!(admit(&token, None, NOW).unwrap_err(), "UnknownCluster");
        let new = Cluster::new("east", ClusterSpec::default());
        assert_eq!(admit(&token, Some(&new), NOW).unwrap_err(), "UnknownKey");
        assert_eq!(admit(&token, Some(&joined(&other)), NOW).unwrap_err(), "BadSignature");
        assert_eq!(admit(&token, Some(&east), NOW + 90).unwrap_err(), "TokenExpired");
        assert_eq!(admit(&token, Some(&east), NOW - 31).unwrap_err(), "ClockSkew");
    }

    #[test]
    fn a_refused_token_does_not_count_as_used() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let gate = Gate::new(NOW);
        let token = key.spoke_token("east", NOW).unwrap();
        assert!(gate.admit(&token, Some(&joined(&other)), NOW).is_err());
        assert!(gate.admit(&token, Some(&joined(&key)), NOW).is_ok());
    }

    #[test]
    fn what_was_signed_before_this_hub_led_is_refused_and_a_slow_clock_is_not() {
        let key = SigningKey::generate().unwrap();
        let (gate, east) = (Gate::new(NOW), joined(&key));
        let old = key.spoke_token("east", NOW - 31).unwrap();
        assert_eq!(gate.admit(&old, Some(&east), NOW).map_err(reason), Err("TokenExpired"));
        let slow = key.spoke_token("east", NOW - 30).unwrap();
        assert!(gate.admit(&slow, Some(&east), NOW).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let key = SigningKey::generate().unwrap();
        let gate = Gate::new(NOW);
        let claims = |id: usize, now| SpokeClaims {
            iss: String::new(),
            aud: String::new(),
            sub: "east".into(),
            jti: id.to_string(),
            iat: now,
            exp: now + 60,
        };
        for id in 0..MAX_REMEMBERED {
            gate.once(&claims(id, NOW), NOW).unwrap();
        }
        assert_eq!(gate.once(&claims(0, NOW), NOW).map_err(reason), Err("TooMany"));
        assert!(gate.once(&claims(0, NOW + 91), NOW + 91).is_ok());
        drop(key);
    }
}
