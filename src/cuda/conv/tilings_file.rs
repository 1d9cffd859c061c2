//! The file of tilings that `kerase bench --tune` writes: which names there are, and where they were measured.

use std::fmt;
use std::path::Path;

use crate::atomic;
use crate::cuda::conv::problem::Kind;
use crate::cuda::conv::tilings::{Note, Tilings};
use crate::cuda::conv::{mma, transpose_mma};
use crate::error::{Error, Result};
use crate::precision::Precision;

/// The names of a kind's tilings.
pub fn names(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Conv3x3(_) => mma::tilings(),
        Kind::Filters => mma::weights::tilings(),
        Kind::Transposed(makes) => transpose_mma::tilings(makes),
    }
}

/// Of a file that `kerase bench --tune` writes.
const HEADER: &str = "\
# Tilings of convolutions that were measured to be quicker than what kerase's models choose: kerase bench --tune writes
# them, and bench --tilings takes them. See src/cuda/conv/tilings_file.rs.
";

const MEASURED_ON: &str = "# measured on ";

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { on, precision, by } = self;
        write!(f, "{MEASURED_ON}{on}; {precision}; {by}")
    }
}

impl Note {
    fn read(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix(MEASURED_ON)?.splitn(3, "; ");
        let [on, precision, by] = [parts.next()?, parts.next()?, parts.next()?];
        Some(Self { on: on.into(), precision: precision.parse().ok()?, by: by.into() })
    }
}

impl Tilings {
    /// What kerase is built with.
    pub fn built_in() -> Self {
        Self::parse(include_str!("tilings.toml")).expect("a test reads it")
    }

    fn parse(text: &str) -> Result<Self> {
        let mut tilings: Self = toml::from_str(text).map_err(|error| Error::input(error.to_string()))?;
        tilings.notes = text.lines().filter_map(Note::read).collect();
        if tilings.measured.contains_key(&Precision::Fp32) {
            return Err(Error::input(
                "in fp32 there is one tiling of each convolution: expected [tf32] or [bf16]",
            ));
        }
        for (problem, name) in tilings.measured.values().flatten() {
            let known = names(problem.kind);
            if !known.contains(name) {
                let known = known.join(", ");
                return Err(Error::input(format!(
                    "{problem}: there is no tiling '{name}', there are {known}"
                )));
            }
        }
        Ok(tilings)
    }

    /// # Errors
    /// Where the file cannot be read, or names what there is not.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
        Self::parse(&text).map_err(|error| error.of_file(path))
    }

    /// Replaces the file as a whole.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        let text = toml::to_string(self).expect("text and texts");
        atomic::write_bytes(path, format!("{HEADER}{notes}{text}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MapShape;
    use crate::cuda::conv::problem::{Makes, Problem};
    use crate::cuda::conv::tilings::Tiled;

    const LAYER: &str = "conv3x3 18 -> 36, 1 x 320 x 184";

    #[test]
    fn what_is_built_in_can_be_read() {
        Tilings::built_in();
    }

    const MAP: MapShape = MapShape { n: 1, channels: 36, height: 320, width: 184 };

    /// The tiling by which such maps with 36 channels are made of, or made to, 18.
    fn chosen(tilings: &Tilings, precision: Precision, kind: Kind) -> String {
        match kind {
            Kind::Conv3x3(makes) => mma::Cut::of(tilings, precision, makes, MAP, 18, 36).name(),
            Kind::Filters => mma::weights::Cut::of(tilings, precision, MAP, 18).name(),
            Kind::Transposed(makes) => transpose_mma::Cut::of(tilings, precision, makes, MAP, 18).name(),
        }
    }

    #[test]
    fn what_was_measured_is_picked() {
        let models = Tilings::default();
        for kind in Kind::ALL {
            let [from, to] = if kind == Kind::Transposed(Makes::Output) { [36, 18] } else { [18, 36] };
            let problem = Problem::new(kind, MAP, from, to);
            for name in names(kind) {
                let mut measured = Tilings::default();
                measured.set(Precision::Tf32, problem, Some(name.clone()));
                let always = Tilings::always([(kind, name.clone())]);
                for tilings in [&measured, &always, &models.clone().overlaid(&measured)] {
                    assert_eq!(chosen(tilings, Precision::Tf32, kind), name, "{problem}");
                }
                assert_eq!(chosen(&always, Precision::Bf16, kind), name);
                assert_eq!(chosen(&measured, Precision::Bf16, kind), chosen(&models, Precision::Bf16, kind));
                measured.set(Precision::Tf32, problem, None);
                assert_eq!(measured.len(Precision::Tf32), 0);
            }
        }
    }

    #[test]
    fn files_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tilings.toml");
        let mut tilings = Tilings::default();
        tilings.set(Precision::Tf32, LAYER.parse().unwrap(), Some("deep by 4".into()));
        let note = |on: &str, by: &str| Note { on: on.into(), precision: Precision::Tf32, by: by.into() };
        tilings.note(note("NVIDIA H100 PCIe", "kerase 1; yesterday"));
        tilings.note(note("NVIDIA A40", "kerase 1"));
        tilings.note(note("NVIDIA H100 PCIe", "kerase 2; today"));
        tilings.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let notes = "# measured on NVIDIA A40; tf32; kerase 1\n\
                     # measured on NVIDIA H100 PCIe; tf32; kerase 2; today\n";
        assert_eq!(text, format!("{HEADER}{notes}[tf32]\n\"{LAYER}\" = \"deep by 4\"\n"));
        assert_eq!(Tilings::read(&path).unwrap(), tilings);
    }

    #[test]
    fn tilings_that_there_are_not_are_refused() {
        let message =
            Tilings::parse(&format!("[tf32]\n\"{LAYER}\" = \"wide by 7\"")).unwrap_err().to_string();
        assert!(message.contains("wide by 7") && message.contains("deep by 4"), "{message}");
        for text in ["[fp64]", "[fp32]", "[tf32]\n\"conv\" = \"wide by 3\"", "tf32 = 3"] {
            assert!(Tilings::parse(text).is_err(), "{text}");
        }
    }
}
