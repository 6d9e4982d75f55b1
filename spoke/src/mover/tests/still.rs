//! Volumes to which nothing may write while they are read, and those to which something does.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use super::*;

/// Does something again and again on a thread until it is dropped.
struct Busy {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn with(mut work: impl FnMut(u64) + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for round in 0.. {
                if stopped.is_cancelled() {
                    return;
                }
                work(round);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn send_still(volume: &Volume, pass: u32) -> Result<SendReport, MoverError> {
    let options = SendOptions { still: true, ..volume.send_options(pass) };
    send(options, Progress::new(), CancellationToken::new()).await
}

/// The first failure of a still sender within a minute.
async fn first_failure(volume: &Volume) -> MoverError {
    let failing = async {
        for pass in 1.. {
            if let Err(error) = send_still(volume, pass).await {
                return Some(error);
            }
        }
        None
    };
    tokio::time::timeout(Duration::from_mins(1), failing).await.expect("it never failed").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_still_is_sent_as_any_other() {
    let volume = Volume::new();
    trees::generate(volume.source.path(), trees::TreeKind::Mixed, 3, 0.005).unwrap();
    send_still(&volume, 1).await.unwrap();
    volume.receive(1).await.unwrap();
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_although_nothing_may_is_named_whether_small_or_large() {
    for size in [4_usize << 20, 20 << 20] {
        let volume = Volume::new();
        let path = volume.source.path().join("busy");
        fs::write(&path, vec![1; size]).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        let busy = Busy::with(move |round| {
            file.write_all_at(&round.to_be_bytes(), (round << 20) % size as u64).unwrap();
        });
        let error = first_failure(&volume).await;
        drop(busy);
        assert_eq!(error.reason(), "FileChanged", "{error}");
        let text = error.to_string();
        assert!(text.starts_with("busy changed") && text.contains("mounts the claim"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_changes_although_nothing_may_is_named() {
    let volume = Volume::new();
    let folder = volume.source.path().join("queue");
    fs::create_dir(&folder).unwrap();
    for n in 0..300 {
        fs::write(folder.join(format!("kept-{n}")), b"x").unwrap();
    }
    let busy = Busy::with(move |round| {
        let path = folder.join(format!("moving-{}", round % 3));
        fs::write(&path, b"x".repeat(100)).unwrap();
        fs::remove_file(&path).unwrap();
    });
    let error = first_failure(&volume).await;
    assert_eq!(error.reason(), "FileChanged", "{error}");
    assert!(error.to_string().starts_with("queue"), "{error}");
    // Where the application runs that is no failure.
    let sent = volume.send(1000).await.unwrap();
    assert!(sent.totals.files >= 300);
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_vanishes_while_the_volume_is_read_is_reported_and_all_else_arrives() {
    let volume = Volume::new();
    let folder = volume.source.path().join("queue");
    fs::create_dir(&folder).unwrap();
    for n in 0..300 {
        fs::write(folder.join(format!("kept-{n}")), b"x".repeat(100)).unwrap();
    }
    let busy = Busy::with(move |round| {
        let path = folder.join(format!("moving-{}", round % 3));
        fs::write(&path, b"y".repeat(100)).unwrap();
        fs::remove_file(&path).unwrap();
    });
    let reporting = async {
        for pass in 1.. {
            let sent = volume.send(pass).await.unwrap();
            if sent.vanished.total > 0 {
                return (pass, sent);
            }
        }
        unreachable!()
    };
    let reported = tokio::time::timeout(Duration::from_mins(1), reporting).await;
    drop(busy);
    let (pass, sent) = reported.expect("nothing was ever seen to vanish");
    let note = &sent.vanished.listed[0];
    assert!(note.path.starts_with("queue/moving-"), "{note:?}");
    assert!(note.message.contains("removed or replaced while the volume was read"), "{note:?}");
    volume.receive(pass).await.unwrap();
    for n in 0..300 {
        let arrived = volume.destination.path().join(format!("queue/kept-{n}"));
        assert_eq!(fs::read(arrived).unwrap(), b"x".repeat(100));
    }
    volume.run_pass(pass + 1).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_that_never_stops_changing_is_reported_and_the_next_pass_reads_it_again() {
    let volume = Volume::new();
    let path = volume.source.path().join("busy");
    fs::write(&path, vec![1; 4 << 20]).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let busy = Busy::with(move |round| {
        file.write_all_at(&round.to_be_bytes(), (round << 20) % (4 << 20)).unwrap();
        // Also of another size each time.
        file.set_len((4 << 20) - (round % 100) * 1000).unwrap();
    });
    let reporting = async {
        for pass in 1.. {
            let sent = volume.send(pass).await.unwrap();
            if sent.inconsistent.total > 0 {
                return (pass, sent);
            }
        }
        unreachable!()
    };
    let reported = tokio::time::timeout(Duration::from_mins(1), reporting).await;
    drop(busy);
    let (pass, sent) = reported.expect("no change was ever seen");
    assert_eq!(sent.inconsistent.listed[0].path, "busy");
    let received = volume.receive(pass).await.unwrap();
    assert_eq!(received.inconsistent, sent.inconsistent);
    let (again, _) = volume.run_pass(pass + 1).await;
    assert_eq!(again.inconsistent.total, 0);
    volume.assert_equal();
}
