//! Which columns of a k-space were measured, where nothing says it but its zeros.

use num_complex::Complex32;

/// The columns of planes of `[rows, columns]` that are not zero in all of them.
///
/// # Errors
/// Where all is zero, and where a column has zeros between numbers: masks are of whole columns here. At a column's ends there
/// may be zeros, of a shorter readout or of corners that were left out.
pub(super) fn sampled_columns(
    planes: &[Complex32],
    [rows, columns]: [usize; 2],
) -> Result<Vec<bool>, String> {
    let mut measured = vec![false; rows * columns];
    for plane in planes.chunks_exact(rows * columns) {
        measured.iter_mut().zip(plane).for_each(|(measured, z)| *measured |= *z != Complex32::ZERO);
    }
    let mut mask = vec![false; columns];
    for (x, sampled) in mask.iter_mut().enumerate() {
        let is_measured = |y: &usize| measured[y * columns + x];
        let Some(first) = (0..rows).find(is_measured) else { continue };
        let last = (0..rows).rfind(is_measured).unwrap_or(first);
        if let Some(hole) = (first..last).find(|y| !is_measured(y)) {
            return Err(format!(
                "row {hole} of column {x} is zero, and others above and below it are not: masks of whole columns alone are \
                 read. Columns are dimension 1 (PHS1), or 2 (PHS2) where that is used; BART's transpose exchanges dimensions"
            ));
        }
        *sampled = true;
    }
    if mask.contains(&true) { Ok(mask) } else { Err("all of it is zero".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_sampled_whole_or_not_at_all() {
        let [zero, one] = [Complex32::ZERO, Complex32::ONE];
        // Two planes of 3 x 4: what is measured in either counts.
        let mut planes = vec![zero; 24];
        assert!(sampled_columns(&planes, [3, 4]).unwrap_err().contains("all of it"));
        for at in [1, 5, 9, 12 + 3, 12 + 7] {
            planes[at] = one;
        }
        assert_eq!(sampled_columns(&planes, [3, 4]), Ok(vec![false, true, false, true]));
        planes[12 + 11] = one;
        planes[12 + 7] = zero;
        let error = sampled_columns(&planes, [3, 4]).unwrap_err();
        assert!(error.contains("row 1 of column 3"), "{error}");
    }
}
