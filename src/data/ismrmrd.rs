//! The ISMRMRD header of a fastMRI file: reading what reconstruction needs, and writing as much.

use roxmltree::{Document, Node};

use super::volume::NewVolume;
use crate::error::{Error, Result};

const NAMESPACE: &str = "http://www.ismrm.org/ISMRMRD";

/// What fastMRI's `SliceDataset._retrieve_metadata` takes from the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `encodedSpace.matrixSize` as x (readout), y (phase encoding), z.
    pub encoding_size: [usize; 3],
    /// `reconSpace.matrixSize` as x, y, z. fastMRI crops images to (x, y) as (height, width).
    pub recon_size: [usize; 3],
    /// Maximum and centre of `encodingLimits.kspace_encoding_step_1`; `None` where the header has none.
    pub encoding_limits: Option<Limits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub maximum: i64,
    pub center: i64,
}

impl Header {
    /// Reads the header's XML. Elements are found as fastMRI's `et_query` finds them: the first in document
    /// order, at any depth. A header without the ISMRMRD namespace is read all the same.
    ///
    /// # Errors
    /// What is wrong with the XML or which element is missing, without the file's name: the caller knows it.
    pub fn parse(xml: &str) -> Result<Self> {
        // Fixed-length strings may carry their padding.
        let xml = xml.trim_matches(|c: char| c == '\0' || c == '\u{feff}' || c.is_whitespace());
        let document = Document::parse(xml)
            .map_err(|error| Error::input(format!("ismrmrd_header is not XML ({error})")))?;
        let root = document.root_element();
        let namespaced = root.descendants().any(|node| node.tag_name().namespace() == Some(NAMESPACE));
        let query = Query { root, namespaced };

        let size = |space: &str| -> Result<[usize; 3]> {
            let axis = |axis| -> Result<usize> {
                let path = ["encoding", space, "matrixSize", axis];
                let value = query.integer(&path)?.ok_or_else(|| missing(&path))?;
                usize::try_from(value)
                    .ok()
                    .filter(|&value| value > 0)
                    .ok_or_else(|| Error::input(format!("ismrmrd_header has {} = {value}", path.join("/"))))
            };
            Ok([axis("x")?, axis("y")?, axis("z")?])
        };
        let limit = |name| query.integer(&["encoding", "encodingLimits", "kspace_encoding_step_1", name]);
        let encoding_limits = match (limit("maximum")?, limit("center")?) {
            (Some(maximum), Some(center)) => Some(Limits { maximum, center }),
            // fastMRI raises here. Without limits nothing is known to be padding, so nothing is cut off.
            _ => None,
        };
        Ok(Self { encoding_size: size("encodedSpace")?, recon_size: size("reconSpace")?, encoding_limits })
    }

    /// `(padding_left, padding_right)`: the scanner acquired columns `left..right` of `columns`, the others are
    /// zeros. Exactly fastMRI's numbers, which may lie outside the k-space where header and k-space disagree.
    pub fn padding(&self, columns: usize) -> (i64, i64) {
        match self.encoding_limits {
            Some(Limits { maximum, center }) => {
                let left = self.encoding_size[1] as i64 / 2 - center;
                (left, left + maximum + 1)
            }
            None => (0, columns as i64),
        }
    }

    /// The XML of a volume's header: what fastMRI and kerase read, and what the ISMRMRD schema asks for.
    pub fn xml(volume: &NewVolume) -> String {
        let [rows, columns] = volume.matrix;
        let [height, width] = volume.recon;
        let space = |x: usize, y: usize| {
            // The field of view is not known; one millimetre a pixel is as good as any.
            format!(
                "<matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>\
                 <fieldOfView_mm><x>{x}</x><y>{y}</y><z>1</z></fieldOfView_mm>"
            )
        };
        let limits = |name: &str, maximum: usize, center: usize| {
            format!(
                "\n      <{name}><minimum>0</minimum><maximum>{maximum}</maximum><center>{center}</center></{name}>"
            )
        };
        format!(
            r#"<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="{NAMESPACE}">
  <measurementInformation><protocolName>{protocol}</protocolName></measurementInformation>
  <acquisitionSystemInformation><receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>123000000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>{encoded}</encodedSpace>
    <reconSpace>{recon}</reconSpace>
    <encodingLimits>{lines}{slices}
    </encodingLimits>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>
"#,
            protocol = escape(&volume.acquisition),
            coils = volume.coils,
            encoded = space(rows, columns),
            recon = space(height, width),
            lines = limits("kspace_encoding_step_1", volume.encoding_limit_max, volume.encoding_limit_center),
            slices = limits("slice", volume.slices.saturating_sub(1), volume.slices / 2),
        )
    }
}

fn missing(path: &[&str]) -> Error {
    Error::input(format!("ismrmrd_header has no element {}", path.join("/")))
}

/// What may not stand in XML text. Control characters have no spelling in XML 1.0 at all.
fn escape(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

struct Query<'a, 'input> {
    root: Node<'a, 'input>,
    namespaced: bool,
}

impl<'a, 'input> Query<'a, 'input> {
    /// The element at `.//path[0]//path[1]//…`, first in document order.
    fn find(&self, from: Node<'a, 'input>, path: &[&str]) -> Option<Node<'a, 'input>> {
        let Some((name, rest)) = path.split_first() else { return Some(from) };
        from.descendants()
            .filter(|&node| node != from && node.tag_name().name() == *name)
            .filter(|node| !self.namespaced || node.tag_name().namespace() == Some(NAMESPACE))
            .find_map(|node| self.find(node, rest))
    }

    fn integer(&self, path: &[&str]) -> Result<Option<i64>> {
        let Some(node) = self.find(self.root, path) else { return Ok(None) };
        let text = node.text().unwrap_or("").trim();
        let value = text.parse().map_err(|_| {
            Error::input(format!("ismrmrd_header has {} = '{text}': expected an integer", path.join("/")))
        })?;
        Ok(Some(value))
    }
}
