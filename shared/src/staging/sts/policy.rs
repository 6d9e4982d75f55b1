//! What a mover may do: with the objects of its one volume, in its one direction.
//!
//! Movers get and put single objects; they neither list nor delete, so no policy grants deletion.
//! Listing is granted below the volume all the same: who may not list is told `AccessDenied`, not
//! `NoSuchKey`, of an object that is not there, and movers wait for objects that are not there
//! yet. S3 then takes the object's key for `s3:prefix`.

use serde_json::{Value, json};

use crate::staging::{PairUid, StoreAccess, VolumeUid, layout};

/// What a mover does with its volume's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeUse {
    /// It writes packs and manifests, and reads those of earlier passes.
    Send,
    /// It reads all of that, and writes how far it is.
    Receive {
        /// The pass whose mark it writes.
        pass: u32,
    },
}

/// The session policy: no other key of the bucket can be read, written or listed under it.
pub fn policy(
    access: &StoreAccess,
    role_arn: &str,
    pair: &PairUid,
    volume: &VolumeUid,
    purpose: VolumeUse,
) -> Value {
    let bucket = format!("arn:{}:s3:::{}", partition(role_arn), access.bucket);
    let below = |key: &str| format!("{}{key}", access.key_prefix());
    let all = format!("{}*", below(&layout::volume_prefix(pair, volume)));
    let written = match purpose {
        VolumeUse::Send => all.clone(),
        VolumeUse::Receive { pass } => below(&layout::pass_received(pair, volume, pass)),
    };
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject"],
                "Resource": [format!("{bucket}/{all}")]
            },
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject"],
                "Resource": [format!("{bucket}/{written}")]
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [bucket],
                "Condition": {"StringLike": {"s3:prefix": [all]}}
            }
        ]
    })
}

/// `aws-cn` and the like for roles there; other servers call everything `aws`, whatever their
/// roles are called.
fn partition(role_arn: &str) -> &str {
    role_arn.split(':').nth(1).filter(|partition| partition.starts_with("aws-")).unwrap_or("aws")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefix: Option<&str>, role_arn: &str, purpose: VolumeUse) -> Value {
        let access = StoreAccess {
            endpoint: "http://s3.example".to_owned(),
            region: "eu".to_owned(),
            bucket: "b".to_owned(),
            prefix: prefix.map(str::to_owned),
            path_style: true,
            ca_pem: None,
            access_key_id: "id".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: None,
            sts: None,
        };
        let (pair, volume) = (PairUid::new("p").unwrap(), VolumeUid::new("v").unwrap());
        policy(&access, role_arn, &pair, &volume, purpose)
    }

    fn resource<'a>(policy: &'a Value, action: &str) -> &'a Value {
        let statements = policy["Statement"].as_array().unwrap();
        let of_action: Vec<_> = statements.iter().filter(|s| s["Action"] == json!([action])).collect();
        assert_eq!(of_action.len(), 1, "{action} in {policy}");
        &of_action[0]["Resource"][0]
    }

    #[test]
    fn a_sender_reads_and_writes_below_its_volume_only() {
        let policy = of(Some("/team/"), "arn:aws:iam::1:role/r", VolumeUse::Send);
        assert_eq!(resource(&policy, "s3:GetObject"), "arn:aws:s3:::b/team/p/volumes/v/*");
        assert_eq!(resource(&policy, "s3:PutObject"), "arn:aws:s3:::b/team/p/volumes/v/*");
        assert_eq!(resource(&policy, "s3:ListBucket"), "arn:aws:s3:::b");
        let listed = policy.pointer("/Statement/2/Condition/StringLike/s3:prefix/0").unwrap();
        assert_eq!(listed, "team/p/volumes/v/*");
        assert_eq!(policy["Statement"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_receiver_writes_its_mark_and_nothing_else() {
        let policy = of(None, "arn:aws:iam::1:role/r", VolumeUse::Receive { pass: 7 });
        assert_eq!(resource(&policy, "s3:GetObject"), "arn:aws:s3:::b/p/volumes/v/*");
        let mark = "arn:aws:s3:::b/p/volumes/v/passes/00000007/received";
        assert_eq!(resource(&policy, "s3:PutObject"), mark);
    }

    #[test]
    fn names_are_of_the_roles_part_of_aws() {
        let china = of(None, "arn:aws-cn:iam::1:role/r", VolumeUse::Send);
        assert_eq!(resource(&china, "s3:ListBucket"), "arn:aws-cn:s3:::b");
        let elsewhere = of(None, "arn:minio:iam:::role/r", VolumeUse::Send);
        assert_eq!(resource(&elsewhere, "s3:ListBucket"), "arn:aws:s3:::b");
    }
}
