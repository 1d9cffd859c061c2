//! BART's files: a header `NAME.hdr` with sixteen sizes, and `NAME.cfl` with complex64 numbers, little endian, in
//! column-major order. What each dimension is: `src/misc/mri.h` of mrirecon/bart.

use std::io::Write;
use std::path::{Path, PathBuf};

use num_complex::Complex32;

use super::complex::all_finite;
use super::entries::shortened;
use super::positioned::PositionedFile;
use crate::atomic;
use crate::error::{Error, Result};

/// Sizes of BART's dimensions.
pub type Dims = [usize; 16];

/// BART's names for the dimensions that kerase gives a meaning.
pub const READ: usize = 0;
pub const PHASE: usize = 1;
pub const PHASE2: usize = 2;
pub const COIL: usize = 3;
pub const TIME: usize = 10;
pub const SLICE: usize = 13;

const NAMES: [&str; 16] = [
    "READ", "PHS1", "PHS2", "COIL", "MAPS", "TE", "COEFF", "COEFF2", "ITER", "CSHIFT", "TIME", "TIME2",
    "LEVEL", "SLICE", "AVG", "BATCH",
];

/// An array of BART's, of which parts can be read.
pub struct Cfl {
    path: PathBuf,
    pub dims: Dims,
    file: PositionedFile,
}

impl Cfl {
    /// Opens `NAME`, `NAME.cfl` or `NAME.hdr`; dimensions other than `meant` must have size 1.
    ///
    /// # Errors
    /// [`Error::Io`] where one of the files cannot be read, [`Error::Input`] where the header is none, where it says
    /// another size than the file has, or where another dimension is used.
    pub fn open(path: &Path, meant: &[usize]) -> Result<Self> {
        let [header, path] = pair(path);
        let dims = read_header(&header)?;
        if let Some(other) = (0..dims.len()).find(|d| !meant.contains(d) && dims[*d] != 1) {
            let meant: Vec<String> = meant.iter().map(|&d| format!("{d} ({})", NAMES[d])).collect();
            return Err(Error::input(format!(
                "{}: dimension {other} ({}) has size {}: expected an array with the dimensions {} only; BART's slice \
                 takes a part of it, and its transpose moves dimensions (2 13: PHS2 to slices)",
                header.display(),
                NAMES[other],
                dims[other],
                meant.join(", ")
            )));
        }
        let file = PositionedFile::open(&path, "the numbers of an array of BART's")?;
        let length = file.length;
        let expected = dims.iter().try_fold(8u64, |size, &axis| size.checked_mul(axis as u64));
        if expected != Some(length) {
            return Err(Error::input(format!(
                "{}: it has {length} bytes, and {} says {:?}, 8 bytes each: copy or make both files again",
                path.display(),
                header.display(),
                dims
            )));
        }
        Ok(Self { path, dims, file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `count` numbers, from number `first` on in the file's order.
    ///
    /// # Errors
    /// Where they cannot be read, or are not finite.
    pub fn read(&self, first: usize, count: usize) -> Result<Vec<Complex32>> {
        let mut bytes = vec![0; 8 * count];
        self.file
            .read_at(8 * first as u64, &mut bytes)
            .map_err(|error| Error::input(format!("{}: {error}: copy it again", self.path.display())))?;
        let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let values: Vec<Complex32> =
            bytes.chunks_exact(8).map(|b| Complex32::new(float(b), float(&b[4..]))).collect();
        if !all_finite(bytemuck::cast_slice(&values)) {
            return Err(Error::input(format!(
                "{}: there are NaN or infinite numbers between number {first} and {}: make the file again",
                self.path.display(),
                first + count
            )));
        }
        Ok(values)
    }
}

/// Header and data of an array, however it is named.
pub fn pair(path: &Path) -> [PathBuf; 2] {
    let base = match path.extension().and_then(|extension| extension.to_str()) {
        Some("cfl" | "hdr") => path.with_extension(""),
        _ => path.to_path_buf(),
    };
    // Not with_extension: a name may have points.
    [".hdr", ".cfl"].map(|extension| {
        let mut name = base.clone().into_os_string();
        name.push(extension);
        PathBuf::from(name)
    })
}

/// Writes an array: `parts` one after the other in the file's order.
///
/// Header and data are both on the disk, under other names, before either of an older pair is touched: what fails until then
/// leaves that pair as it was. As two files cannot be renamed at once, the old header goes first, then the data comes, then the
/// header. A crash in between leaves data without its header, which nothing takes for an array, and never a header beside
/// the data of another one, which of the same size would go unnoticed.
///
/// # Errors
/// Those of `parts`, of the disk, and [`Error::Input`] where they are not as many numbers as `dims` says.
pub fn write(path: &Path, dims: &Dims, parts: impl Iterator<Item = Result<Vec<Complex32>>>) -> Result<()> {
    let [header, path] = pair(path);
    let cannot_write = |source| Error::io("write", &path, source);
    let had_data = path.exists();
    let sizes: Vec<String> = dims.iter().map(ToString::to_string).collect();
    let text = format!("# Dimensions\n{}\n", sizes.join(" "));
    let mut count = 0;
    let written = atomic::write(&header, |writer| {
        let to_disk = writer.write_all(text.as_bytes()).and_then(|()| writer.flush());
        to_disk
            .and_then(|()| writer.get_ref().sync_all())
            .map_err(|source| Error::io("write", &header, source))?;
        atomic::write(&path, |writer| {
            for part in parts {
                let part = part?;
                count += part.len();
                for z in part {
                    writer.write_all(&z.re.to_le_bytes()).map_err(cannot_write)?;
                    writer.write_all(&z.im.to_le_bytes()).map_err(cannot_write)?;
                }
            }
            if count != dims.iter().product::<usize>() {
                return Err(Error::input(format!(
                    "{}: {count} numbers for an array of {dims:?}",
                    path.display()
                )));
            }
            writer.flush().and_then(|()| writer.get_ref().sync_all()).map_err(cannot_write)?;
            match std::fs::remove_file(&header) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io("replace", &header, error))
                }
                _ => {
                    // The header must be gone from the disk before other data is there.
                    atomic::sync_parent(&header);
                    Ok(())
                }
            }
        })
    });
    written.inspect_err(|_| {
        if !had_data {
            let _ = std::fs::remove_file(&path);
        }
    })
}

/// Headers are a few lines, with the commands that made the array.
const LARGEST_HEADER: u64 = 1 << 20;

fn read_header(path: &Path) -> Result<Dims> {
    let file = PositionedFile::open(path, "a header of BART's")?;
    let refused = |what: String| Error::input(format!("{}: {what}", path.display()));
    if file.length > LARGEST_HEADER {
        return Err(refused(format!(
            "it has {} bytes: expected a header of BART's, a few lines",
            file.length
        )));
    }
    let mut text = vec![0; file.length as usize];
    file.read_at(0, &mut text).map_err(|error| refused(format!("{error}: copy it again")))?;
    parse(&String::from_utf8_lossy(&text)).map_err(refused)
}

/// The line after `# Dimensions`; what BART itself adds behind, such as the command, is left alone.
fn parse(text: &str) -> std::result::Result<Dims, String> {
    let mut lines = text.lines().skip_while(|line| line.trim() != "# Dimensions").skip(1);
    let line =
        lines.next().ok_or("no line '# Dimensions' with sizes behind it: expected a header of BART")?;
    let sizes: Vec<&str> = line.split_whitespace().collect();
    let mut dims = [1; 16];
    if sizes.is_empty() || sizes.len() > dims.len() {
        return Err(format!("{} sizes in '{}': expected 1 to 16", sizes.len(), shortened(line)));
    }
    for (size, text) in dims.iter_mut().zip(sizes) {
        *size = text.parse().ok().filter(|&size| size > 0).ok_or_else(|| {
            format!(
                "'{}' in '{}' is no size: expected whole numbers from 1",
                shortened(text),
                shortened(line)
            )
        })?;
    }
    Ok(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_bart_s() {
        let dims = parse("# Dimensions\n8 10 1 4 1 \n# Command\nfft 3 a b\n").unwrap();
        assert_eq!(dims[..5], [8, 10, 1, 4, 1]);
        assert_eq!(dims[5..], [1; 11]);
        for (text, part) in [
            ("", "# Dimensions"),
            ("# Dimensions\n", "# Dimensions"),
            ("# Dimensions\n\n", "0 sizes"),
            ("# Dimensions\n8 0", "'0'"),
            ("# Dimensions\n8 -1", "'-1'"),
            ("# Dimensions\n8 99999999999999999999999", "no size"),
            ("# Dimensions\n1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "17 sizes"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn names_may_have_points() {
        for name in ["a/b.c.cfl", "a/b.c.hdr"] {
            assert_eq!(pair(Path::new(name)), ["a/b.c.hdr", "a/b.c.cfl"].map(PathBuf::from));
        }
        assert_eq!(pair(Path::new("scan")), ["scan.hdr", "scan.cfl"].map(PathBuf::from));
    }
}
