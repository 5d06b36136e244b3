//! Names as Kubernetes takes them.

use std::fmt;
use std::str::FromStr;

/// With `-coordinator` behind it, a StatefulSet's name must leave room for the hash that Kubernetes appends to it.
const LONGEST_NAME: usize = 40;
/// A DNS label.
const LONGEST_LABEL: usize = 63;
/// A DNS subdomain.
const LONGEST_SUBDOMAIN: usize = 253;

/// What the objects of one job are named after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct Name(String);

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct Namespace(String);

/// The name of an object that is there already: a claim, a secret, an account, a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct ObjectName(String);

/// An image as a container runtime takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct Image(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_label(text, LONGEST_NAME) && text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "a name has 1 to {LONGEST_NAME} lower-case letters, digits and hyphens, begins with a letter and ends with a \
             letter or digit, as in medical-1; this one has {} characters",
            text.chars().count()
        ))
    }
}

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_label(text, LONGEST_LABEL) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "a namespace has 1 to {LONGEST_LABEL} lower-case letters, digits and hyphens, with a letter or digit at both ends"
        ))
    }
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_subdomain(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "an object's name has 1 to {LONGEST_SUBDOMAIN} lower-case letters, digits, hyphens and dots, with a letter or digit \
             at both ends of each part"
        ))
    }
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let printable = |c: char| c.is_ascii_graphic();
        if !text.is_empty() && text.chars().all(printable) {
            return Ok(Self(text.to_owned()));
        }
        Err(
            "this is no image; give one that the cluster can pull, as in registry.example/weft:0.1.0"
                .to_owned(),
        )
    }
}

/// Lower-case letters, digits and hyphens, none of them at an end.
fn is_label(text: &str, longest: usize) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= longest
        && text.starts_with(word)
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || c == '-')
}

/// Labels with dots between them.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= LONGEST_SUBDOMAIN && text.split('.').all(|part| is_label(part, LONGEST_LABEL))
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            /// As written.
            pub(in crate::k8s) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text!(Name, Namespace, ObjectName, Image);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_that_leave_room_for_what_is_appended() {
        for good in ["weft", "a", "medical-1", &"a".repeat(40)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "1a",
            "-a",
            "a-",
            "Medical",
            "a_b",
            "a.b",
            &"a".repeat(41),
        ] {
            let refused = bad.parse::<Name>().unwrap_err();
            assert!(refused.contains("medical-1"), "{bad}: {refused}");
        }
    }

    #[test]
    fn objects_may_have_dots_in_their_names_and_namespaces_may_not() {
        assert!("fast.rwx-1".parse::<ObjectName>().is_ok());
        for bad in ["", "a..b", ".a", "a b"] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
        assert!("team-1".parse::<Namespace>().is_ok());
        assert!("team.1".parse::<Namespace>().is_err());
    }

    #[test]
    fn an_image_is_one_word() {
        assert!("weft:0.1.0".parse::<Image>().is_ok());
        for bad in ["", " ", "we ft"] {
            assert!(bad.parse::<Image>().is_err(), "{bad:?}");
        }
    }
}
