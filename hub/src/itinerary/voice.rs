//! What is said of a volume while both its movers are at work: one line for the two of them.
//!
//! A sender that makes no headway is why the receiver makes none, so its word counts most. A
//! receiver that makes none is told before a sender that does: staging fills up behind it. Apart
//! from that the sender speaks for as long as it sends, then the receiver.

use isthmus_shared::resources::{Finding, StepState, VolumeStatus};

use super::findings::{MAX_MESSAGE, cut};

/// How the line of a sender that makes no headway begins.
const SENDER: &str = "the sender makes no headway: ";
/// Likewise of a receiver.
const RECEIVER: &str = "the receiver makes no headway: ";
/// The reason of a receiver that gave up on its sender.
const SENDER_SILENT: &str = "SenderSilent";

/// The sender has spoken.
pub(super) fn sender(volume: &mut VolumeStatus, message: Option<String>, stalled: Option<&str>) {
    match stalled {
        Some(why) => volume.message = Some(cut(&format!("{SENDER}{why}"), MAX_MESSAGE)),
        None if says(volume, RECEIVER) => {}
        None if message.is_some() => volume.message = message,
        None => {}
    }
}

/// The receiver has spoken.
pub(super) fn receiver(volume: &mut VolumeStatus, message: Option<String>, stalled: Option<&str>) {
    let sends = volume.send == StepState::InProgress;
    match stalled {
        Some(_) if sends && says(volume, SENDER) => {}
        Some(why) => volume.message = Some(cut(&format!("{RECEIVER}{why}"), MAX_MESSAGE)),
        None if message.is_some() && (!sends || says(volume, RECEIVER)) => volume.message = message,
        None => {}
    }
}

/// Adds to a receiver's failure what its sender last said, where that is why it failed.
pub(super) fn explain(finding: &mut Finding, volume: &VolumeStatus) {
    if finding.reason == SENDER_SILENT
        && let Some(last) = volume.message.as_ref().filter(|_| volume.send == StepState::InProgress)
        && !says(volume, RECEIVER)
    {
        finding.message =
            cut(&format!("{}; the last that was heard of the sender: {last}", finding.message), MAX_MESSAGE);
    }
}

fn says(volume: &VolumeStatus, what: &str) -> bool {
    volume.message.as_ref().is_some_and(|message| message.starts_with(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending() -> VolumeStatus {
        VolumeStatus {
            send: StepState::InProgress,
            receive: StepState::InProgress,
            ..VolumeStatus::default()
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a volume says is optional everywhere")]
    fn words(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_receiver_that_makes_no_headway_is_told_while_the_sender_sends() {
        let mut volume = sending();
        sender(&mut volume, words("sending"), None);
        receiver(&mut volume, words("waiting for the sender"), None);
        assert_eq!(volume.message, words("sending"));
        receiver(&mut volume, None, Some("Unschedulable: 0/2 nodes are available"));
        sender(&mut volume, words("sending"), None);
        let told = volume.message.clone().unwrap();
        assert_eq!(told, "the receiver makes no headway: Unschedulable: 0/2 nodes are available");
        receiver(&mut volume, words("receiving"), None);
        assert_eq!(volume.message, words("receiving"), "it goes on");
        sender(&mut volume, words("sending"), None);
        assert_eq!(volume.message, words("sending"));
    }

    #[test]
    fn a_sender_that_makes_no_headway_is_why_the_receiver_makes_none() {
        let mut volume = sending();
        sender(&mut volume, None, Some("mover s-1 waits: ImagePullBackOff"));
        receiver(&mut volume, words("waiting"), Some("nothing new from the sender s-1 for 70 s"));
        assert_eq!(volume.message, words("the sender makes no headway: mover s-1 waits: ImagePullBackOff"));
        volume.send = StepState::Succeeded;
        receiver(&mut volume, None, Some("OOMKilled"));
        assert_eq!(volume.message, words("the receiver makes no headway: OOMKilled"));
    }

    #[test]
    fn a_receiver_that_gave_up_on_its_sender_says_what_that_last_said() {
        let mut volume = sending();
        sender(&mut volume, None, Some("mover s-1 waits: ImagePullBackOff"));
        let silent = |reason: &str| Finding {
            object: "claim".to_owned(),
            reason: reason.to_owned(),
            message: "nothing came for 900 s".to_owned(),
            step: None,
        };
        let mut finding = silent(SENDER_SILENT);
        explain(&mut finding, &volume);
        assert!(finding.message.ends_with("mover s-1 waits: ImagePullBackOff"), "{}", finding.message);
        let mut other = silent("FileRefused");
        explain(&mut other, &volume);
        assert_eq!(other.message, "nothing came for 900 s");
    }
}
