//! Numbers as people read them.

use super::condition::{Quality, Seeds};
use crate::metrics::Spread;
use crate::table::plus_minus;

/// "39.07 ± 2.03 (± 0.12) / 0.964": PSNR, its deviation over volumes and, in brackets, over seeds; SSIM.
pub fn quality(quality: &Quality) -> String {
    let volumes = quality.psnr_sd_over_volumes.map_or(String::new(), |sd| format!(" ± {sd:.2}"));
    let seeds = quality.psnr.sd.map_or(String::new(), |sd| format!(" (± {sd:.2})"));
    format!("{:.2}{volumes}{seeds} / {:.3}", quality.psnr.mean, quality.ssim.mean)
}

/// What stands where there is no number.
pub fn nothing(seeds: Seeds) -> String {
    if seeds.diverged > 0 && seeds.measured == 0 { "diverged".into() } else { "–".into() }
}

/// "3", or "2 of 3, 1 diverged".
pub fn seeds(seeds: Seeds) -> String {
    let Seeds { all, measured, diverged } = seeds;
    match (measured == all, diverged) {
        (true, _) => all.to_string(),
        (false, 0) => format!("{measured} of {all}"),
        (false, _) => format!("{measured} of {all}, {diverged} diverged"),
    }
}

/// "10 %", "0.5 %".
pub fn percent(share: f64) -> String {
    format!("{} %", trimmed(100.0 * share, 2))
}

/// "9.8 ± 0.3 %".
pub fn percent_spread(share: Spread) -> String {
    let hundredfold = Spread { mean: 100.0 * share.mean, sd: share.sd.map(|sd| 100.0 * sd), ..share };
    format!("{} %", plus_minus(hundredfold, 1))
}

/// "12 ms", "3.4 s", "5.6 min", "7.8 h": three digits or fewer.
pub fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds.abs() {
        s if s < 1.0 => (seconds * 1e3, "ms"),
        s if s < 60.0 => (seconds, "s"),
        s if s < 3600.0 => (seconds / 60.0, "min"),
        _ => (seconds / 3600.0, "h"),
    };
    format!("{} {unit}", trimmed(value, if value.abs() < 10.0 { 1 } else { 0 }))
}

/// At most so many decimals, and none that are zero.
pub fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_shares_are_short() {
        assert_eq!(
            [0.0123, 3.44, 59.0, 150.0, 9000.0].map(duration),
            ["12 ms", "3.4 s", "59 s", "2.5 min", "2.5 h"]
        );
        assert_eq!([0.1, 0.005, 1.0].map(percent), ["10 %", "0.5 %", "100 %"]);
        assert_eq!([100.0, 0.0, 0.25].map(|v| trimmed(v, 1)), ["100", "0", "0.2"]);
    }
}
