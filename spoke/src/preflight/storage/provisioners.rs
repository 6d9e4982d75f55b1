//! Which access modes well-known provisioners do not serve for filesystems. Raw devices are another
//! matter: several of these let many nodes have one. What is not in the table is not judged, and
//! `ReadWriteOncePod` neither, as it depends on the driver's version.

/// How sure it is that a claim would wait for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The driver refuses it.
    Never,
    /// Unless somebody has set the provisioner up for it.
    Seldom,
}

/// A block device can be attached to one node, or holds a filesystem that only one may write.
const NEITHER: &[&str] = &["ReadWriteMany", "ReadOnlyMany"];
/// As [`NEITHER`], but many nodes may read it.
const NOT_MANY_WRITERS: &[&str] = &["ReadWriteMany"];

/// Provisioner, the modes that it does not serve, and how sure that is.
const KNOWN: &[(&str, &[&str], Verdict)] = &[
    // kubernetes-sigs/aws-ebs-csi-driver, issues 2178 and 2176: many nodes for raw devices only.
    ("ebs.csi.aws.com", NEITHER, Verdict::Never),
    ("kubernetes.io/aws-ebs", NEITHER, Verdict::Never),
    // kubernetes-sigs/azuredisk-csi-driver, issues 2122 and 1763.
    ("disk.csi.azure.com", NOT_MANY_WRITERS, Verdict::Never),
    ("kubernetes.io/azure-disk", NOT_MANY_WRITERS, Verdict::Never),
    // kubernetes-sigs/gcp-compute-persistent-disk-csi-driver, pkg/gce-pd-csi-driver/utils.go:
    // "specified multi writer with mount access type".
    ("pd.csi.storage.gke.io", NOT_MANY_WRITERS, Verdict::Never),
    ("kubernetes.io/gce-pd", NOT_MANY_WRITERS, Verdict::Never),
    // ceph/ceph-csi, issue 1038 and pull request 427: "multi node access modes are only supported on
    // rbd `block` type volumes". Operators register it under names of their own: see `judge`.
    ("rbd.csi.ceph.com", NOT_MANY_WRITERS, Verdict::Never),
    // exoscale/exoscale-csi-driver, issue 8.
    ("csi.exoscale.com", NEITHER, Verdict::Never),
    // cloudscale-ch/csi-cloudscale, issue 14.
    ("csi.cloudscale.ch", NEITHER, Verdict::Never),
    // rancher/local-path-provisioner, issue 70 and pull request 331: with a shared filesystem all modes.
    ("rancher.io/local-path", NEITHER, Verdict::Seldom),
    // kubevirt/hostpath-provisioner, issue 66.
    ("kubevirt.io.hostpath-provisioner", NEITHER, Verdict::Seldom),
    // kubernetes-sigs/sig-storage-local-static-provisioner, issue 168; volumes that a person makes
    // may say otherwise.
    ("kubernetes.io/no-provisioner", NEITHER, Verdict::Seldom),
];

/// Whether a provisioner is known not to serve a mode.
pub fn judge(provisioner: &str, mode: &str, block: bool) -> Option<Verdict> {
    if block {
        return None;
    }
    // `openshift-storage.rbd.csi.ceph.com`, `rook-ceph.rbd.csi.ceph.com`.
    let is = |known: &str| {
        provisioner == known || (known == "rbd.csi.ceph.com" && provisioner.ends_with(".rbd.csi.ceph.com"))
    };
    let (_, not_served, verdict) = KNOWN.iter().find(|(known, ..)| is(known))?;
    not_served.contains(&mode).then_some(*verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_storage_serves_many_writers_for_raw_devices_only() {
        for provisioner in
            ["ebs.csi.aws.com", "disk.csi.azure.com", "pd.csi.storage.gke.io", "rook-ceph.rbd.csi.ceph.com"]
        {
            assert_eq!(judge(provisioner, "ReadWriteMany", false), Some(Verdict::Never), "{provisioner}");
            assert_eq!(judge(provisioner, "ReadWriteMany", true), None, "{provisioner}");
            assert_eq!(judge(provisioner, "ReadWriteOnce", false), None, "{provisioner}");
            assert_eq!(judge(provisioner, "ReadWriteOncePod", false), None, "{provisioner}");
        }
        assert_eq!(judge("rbd.csi.ceph.com", "ReadOnlyMany", false), None);
        assert_eq!(judge("ebs.csi.aws.com", "ReadOnlyMany", false), Some(Verdict::Never));
    }

    #[test]
    fn folders_of_a_node_may_be_shared_and_the_unknown_may_do_anything() {
        assert_eq!(judge("rancher.io/local-path", "ReadWriteMany", false), Some(Verdict::Seldom));
        assert_eq!(judge("nfs.csi.k8s.io", "ReadWriteMany", false), None);
        assert_eq!(judge("csi.example.com", "ReadWriteMany", false), None);
    }
}
