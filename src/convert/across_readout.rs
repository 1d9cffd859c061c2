//! Scans with two phase encodings, as slices across their readout.

use num_complex::{Complex32, Complex64};
use rustfft::FftPlanner;

use crate::data::cfl::{self, Cfl};
use crate::error::{Error, Result};

/// The k-space of a three-dimensional scan, `[coils, PHS2, PHS1, READ]` in the file, as `[READ, coils, PHS1, PHS2]`: a slice
/// for each place along the readout, with rows along the first phase encoding and columns along the second.
///
/// The readout's transform is undone, centred and orthonormal, as BART's `fft -u -i 1` does it; in double precision, rounded
/// once. Lines that were not measured stay zero.
///
/// # Errors
/// Several frames or slabs, and what cannot be read.
pub(super) fn slices_across_readout(array: &Cfl) -> Result<Vec<Complex32>> {
    let [read, rows, columns, coils] =
        [cfl::READ, cfl::PHASE, cfl::PHASE2, cfl::COIL].map(|dimension| array.dims[dimension]);
    if array.dims[cfl::TIME] * array.dims[cfl::SLICE] > 1 {
        return Err(Error::input(format!(
            "{}: {} frames (dimension 10) and {} slabs (13) of a scan with two phase encodings (1 and 2): take one of them \
             with BART's slice",
            array.path().display(),
            array.dims[cfl::TIME],
            array.dims[cfl::SLICE]
        )));
    }
    let plan = FftPlanner::new().plan_fft_inverse(read);
    let mut work = vec![Complex64::ZERO; plan.get_inplace_scratch_len()];
    let scale = 1.0 / (read as f64).sqrt();
    let of_coil = rows * columns;
    let mut kspace = vec![Complex32::ZERO; read * coils * of_coil];
    for coil in 0..coils {
        let stored = array.read(coil * of_coil * read, of_coil * read)?;
        for (number, line) in stored.chunks_exact(read).enumerate() {
            let mut line: Vec<Complex64> =
                line.iter().map(|z| Complex64::new(z.re.into(), z.im.into())).collect();
            line.rotate_left(read / 2);
            plan.process_with_scratch(&mut line, &mut work);
            line.rotate_right(read / 2);
            let at = coil * of_coil + number % rows * columns + number / rows;
            for (slice, z) in line.into_iter().enumerate() {
                let z = z * scale;
                kspace[slice * coils * of_coil + at] = Complex32::new(z.re as f32, z.im as f32);
            }
        }
    }
    Ok(kspace)
}
