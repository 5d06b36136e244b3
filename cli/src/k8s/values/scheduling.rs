//! Where pods go, and where their image comes from.

use std::str::FromStr;

use super::names::is_subdomain;

const LONGEST: usize = 63;

/// A label that nodes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct NodeLabel {
    /// Its key.
    pub(in crate::k8s) key: String,
    /// Its value, which may be empty.
    pub(in crate::k8s) value: String,
}

/// A taint that pods put up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct Toleration {
    /// Its key.
    pub(in crate::k8s) key: String,
    /// Its value; any where there is none.
    pub(in crate::k8s) value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; all where there is none.
    pub(in crate::k8s) effect: Option<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(in crate::k8s) enum PullPolicy {
    /// Where the node has none.
    IfNotPresent,
    /// Each time.
    Always,
    /// Never: the nodes have it.
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    pub(in crate::k8s) fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

impl FromStr for NodeLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if is_key(key) && (value.is_empty() || is_word(value)) => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            Some(_) | None => Err(format!(
                "{text:?} is no label of a node; write it as KEY=VALUE, as in nvidia.com/gpu.product=NVIDIA-H200"
            )),
        }
    }
}

impl FromStr for Toleration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (taint, effect) = match text.split_once(':') {
            Some((taint, effect)) => (taint, Some(effect.to_owned())),
            None => (text, None),
        };
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (taint, None),
        };
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        let known = effect
            .as_deref()
            .is_none_or(|effect| effects.contains(&effect));
        let legal = value.as_deref().is_none_or(is_word);
        if is_key(key) && legal && known {
            return Ok(Self {
                key: key.to_owned(),
                value,
                effect,
            });
        }
        Err(format!(
            "{text:?} is no taint; write it as KEY, KEY=VALUE or KEY=VALUE:EFFECT, with NoSchedule, PreferNoSchedule or \
             NoExecute for the effect"
        ))
    }
}

/// `name` or `prefix/name`.
pub(super) fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_word(name),
        None => is_word(text),
    }
}

fn is_word(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= LONGEST
        && text.starts_with(end)
        && text.ends_with(end)
        && text.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

/// Reads the name of what a device plugin hands out.
pub(in crate::k8s) fn gpu_resource(text: &str) -> Result<String, String> {
    if text.contains('/') && is_key(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no resource of a device plugin; write it as nvidia.com/gpu or nvidia.com/mig-1g.18gb"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_nodes_are_keys_with_values() {
        let label: NodeLabel = "nvidia.com/gpu.product=NVIDIA-H200".parse().unwrap();
        assert_eq!(
            (&*label.key, &*label.value),
            ("nvidia.com/gpu.product", "NVIDIA-H200")
        );
        assert!("pool=".parse::<NodeLabel>().is_ok());
        for bad in ["pool", "=x", "a/b/c=x", "pool=a b"] {
            assert!(bad.parse::<NodeLabel>().is_err(), "{bad}");
        }
    }

    #[test]
    fn taints_may_leave_out_value_and_effect() {
        let taint: Toleration = "pool=train:NoExecute".parse().unwrap();
        assert_eq!(taint.value.as_deref(), Some("train"));
        assert_eq!(taint.effect.as_deref(), Some("NoExecute"));
        let bare: Toleration = "spot".parse().unwrap();
        assert_eq!((bare.value, bare.effect), (None, None));
        for bad in ["", "a=b:Never", ":NoSchedule", "a b"] {
            assert!(bad.parse::<Toleration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_plugins_resource_has_its_vendors_domain() {
        assert!(gpu_resource("nvidia.com/mig-1g.18gb").is_ok());
        for bad in ["gpu", "", "nvidia.com/", "nvidia com/gpu"] {
            assert!(gpu_resource(bad).is_err(), "{bad}");
        }
    }
}
