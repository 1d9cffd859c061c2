//! The ISMRMRD header of a fastMRI file: reading what reconstruction needs, and writing as much.

use roxmltree::{Document, Node};

use super::entries::shortened;
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
    ///
    /// # Errors
    /// Where the limits are numbers that no scan has.
    pub fn padding(&self, columns: usize) -> Result<(i64, i64)> {
        let Some(Limits { maximum, center }) = self.encoding_limits else { return Ok((0, columns as i64)) };
        let left = i64::try_from(self.encoding_size[1]).ok().and_then(|size| (size / 2).checked_sub(center));
        let right = left.and_then(|left| left.checked_add(maximum)?.checked_add(1));
        left.zip(right).ok_or_else(|| {
            Error::input(format!(
                "ismrmrd_header has encodingLimits of the maximum {maximum} and the center {center}: expected indices of \
                 columns; copy the header from the original file"
            ))
        })
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
    /// The element at `.//path[0]//path[1]//…`, first in document order. One walk finds it, however deep elements of these names
    /// stand in each other: how much of the path stands above an element is known from the element around it.
    fn find(&self, path: &[&str]) -> Option<Node<'a, 'input>> {
        let mut above = vec![(self.root.id(), 0)];
        // The first is the root itself.
        for node in self.root.descendants().skip(1) {
            let parent = node.parent().map(|parent| parent.id());
            while above.last().is_some_and(|(id, _)| Some(*id) != parent) {
                above.pop();
            }
            let found = above.last().map_or(0, |(_, found)| *found);
            let tag = node.tag_name();
            let next = tag.name() == path[found] && (!self.namespaced || tag.namespace() == Some(NAMESPACE));
            if next && found + 1 == path.len() {
                return Some(node);
            }
            above.push((node.id(), found + usize::from(next)));
        }
        None
    }

    fn integer(&self, path: &[&str]) -> Result<Option<i64>> {
        let Some(node) = self.find(path) else { return Ok(None) };
        let text = node.text().unwrap_or("").trim();
        let value = text.parse().map_err(|_| {
            let (path, text) = (path.join("/"), shortened(text));
            Error::input(format!("ismrmrd_header has {path} = '{text}': expected an integer"))
        })?;
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(encoding: &str) -> Result<Header> {
        Header::parse(&format!("<ismrmrdHeader><encoding>{encoding}</encoding></ismrmrdHeader>"))
    }

    fn sizes(x: u32) -> String {
        let size = |space| format!("<{space}><matrixSize><x>{x}</x><y>8</y><z>1</z></matrixSize></{space}>");
        size("encodedSpace") + &size("reconSpace")
    }

    fn limits(maximum: i64, center: i64) -> String {
        let of = format!("<maximum>{maximum}</maximum><center>{center}</center>");
        format!("<encodingLimits><kspace_encoding_step_1>{of}</kspace_encoding_step_1></encodingLimits>")
    }

    #[test]
    fn elements_are_found_through_others_and_the_first_that_is_whole() {
        // An encodedSpace without a size, and a matrixSize that is in no encodedSpace, come before.
        let before = "<encodedSpace><x>1</x></encodedSpace><matrixSize><x>2</x></matrixSize>";
        let found = header(&format!("{before}<other>{}</other>{}", sizes(6), sizes(7))).unwrap();
        assert_eq!((found.encoding_size, found.recon_size), ([6, 8, 1], [6, 8, 1]));
        assert_eq!(found.encoding_limits, None);
        assert!(header(before).unwrap_err().to_string().contains("encoding/encodedSpace/matrixSize/x"));
    }

    /// Each combination of elements was tried once, of 600 of each 10^8: this test did not end.
    #[test]
    fn elements_in_elements_of_the_same_name_are_passed_once() {
        let deep =
            |name: &str, inner: String| (0..600).fold(inner, |inner, _| format!("<{name}>{inner}</{name}>"));
        let inner = deep("encoding", deep("encodedSpace", deep("matrixSize", String::new())));
        let error = Header::parse(&format!("<a>{inner}</a>")).unwrap_err().to_string();
        assert!(error.contains("no element encoding/encodedSpace/matrixSize/x"), "{error}");
    }

    #[test]
    fn limits_that_no_scan_has_are_refused() {
        let padding = |maximum, center| header(&(sizes(6) + &limits(maximum, center))).unwrap().padding(8);
        assert_eq!(padding(5, 3).unwrap(), (1, 7));
        for (maximum, center) in [(i64::MAX, 3), (i64::MAX - 1, 3), (5, i64::MIN), (i64::MAX, -1)] {
            let error = padding(maximum, center).unwrap_err().to_string();
            assert!(error.contains("encodingLimits") && error.contains("the original file"), "{error}");
        }
    }
}
