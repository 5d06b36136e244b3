//! How the GPUs of this machine reach each other, as a matrix.

use std::fmt;

use serde::{Serialize, Serializer};
use weft_worker::cuda::{Link, links};

/// Of each GPU to each.
#[derive(Debug)]
pub(super) struct Topology(Vec<Vec<Link>>);

impl Topology {
    /// Of the first `gpus` GPUs; nothing where there are not two, and why where the driver does not say.
    pub(super) fn look(gpus: usize) -> Result<Option<Self>, String> {
        if gpus < 2 {
            return Ok(None);
        }
        let links = links(gpus).map(|links| Some(Self(links)));
        links.map_err(|error| format!("the driver does not say how GPUs reach each other: {error}"))
    }

    /// What costs speed.
    pub(super) fn warning(&self) -> Option<String> {
        let is = |link| self.0.iter().flatten().any(|of| *of == link);
        is(Link::Host).then(|| {
            "some GPUs reach each other through the host's memory only, which is slow; in a virtual machine or with an \
             IOMMU, peer access may be switched off"
                .to_owned()
        })
    }
}

/// A row of words for each GPU.
impl Serialize for Topology {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let word = |link: &Link| link.to_string().to_lowercase();
        let rows = self.0.iter();
        serializer.collect_seq(rows.map(|row| row.iter().map(word).collect::<Vec<_>>()))
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}", "links")?;
        for ordinal in 0..self.0.len() {
            write!(f, "{:<8}", format!("GPU {ordinal}"))?;
        }
        for (ordinal, row) in self.0.iter().enumerate() {
            write!(f, "\n   {:<6}", format!("GPU {ordinal}"))?;
            for link in row {
                write!(f, "{link:<8}")?;
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Topology {
        use Link::{Host, NvLink, Own, Pcie};
        Topology(vec![
            vec![Own, NvLink, Host],
            vec![NvLink, Own, Pcie],
            vec![Host, Pcie, Own],
        ])
    }

    #[test]
    fn links_are_a_matrix() {
        let lines: Vec<String> = three()
            .to_string()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        assert_eq!(
            lines,
            [
                "links    GPU 0   GPU 1   GPU 2",
                "   GPU 0 -       NVLINK  HOST",
                "   GPU 1 NVLINK  -       PCIE",
                "   GPU 2 HOST    PCIE    -",
            ]
        );
        let json = serde_json::to_value(three()).unwrap();
        assert_eq!(json[0], serde_json::json!(["-", "nvlink", "host"]));
    }

    #[test]
    fn a_way_through_the_host_is_warned_of() {
        assert!(three().warning().unwrap().contains("IOMMU"));
        let both = Topology(vec![
            vec![Link::Own, Link::NvLink],
            vec![Link::NvLink, Link::Own],
        ]);
        assert_eq!(both.warning(), None);
    }

    #[test]
    fn one_gpu_has_no_links() {
        assert!(Topology::look(1).unwrap().is_none());
    }
}
