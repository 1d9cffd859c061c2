//! Which GPUs machine code is made for.

/// Machine code for A100, A10 and RTX 30, L40 and RTX 40, H100 and H200.
const USUAL: [&str; 4] = ["80", "86", "89", "90a"];
/// From these a driver compiles for every other GPU since A100, once, at the first start: from the later one for B200 and
/// RTX 50, whose kernels then wait by themselves for what they read (`await_inputs` in kernels/common.cuh).
const PTX: &[&str] = &["80", "90"];
/// Kernels use asynchronous copies and tensor cores of this generation on.
const OLDEST: u32 = 80;

/// Compute capabilities as nvcc writes them: "80", "90a".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architectures {
    machine_code: Vec<String>,
    ptx: &'static [&'static str],
}

impl Architectures {
    /// What `CUDA_COMPUTE_CAP` asks for: "90a", "80,90a", "8.6", "sm_90a"; nothing or "all" for the usual ones with PTX.
    pub fn parse(value: Option<&str>) -> Result<Self, String> {
        let value = value.unwrap_or_default().trim();
        if value.is_empty() || value == "all" {
            return Ok(Self { machine_code: USUAL.map(String::from).to_vec(), ptx: PTX });
        }
        let mut machine_code = Vec::new();
        for asked in value.split(',').map(str::trim) {
            let name = one(asked).map_err(|why| {
                format!(
                    "CUDA_COMPUTE_CAP={value}: {why}; expected all, or compute capabilities of 8.0 or newer such as \
                     90a or 80,86,90a"
                )
            })?;
            if !machine_code.contains(&name) {
                machine_code.push(name);
            }
        }
        Ok(Self { machine_code, ptx: &[] })
    }

    pub fn arguments(&self) -> Vec<String> {
        let machine_code = self.machine_code.iter().map(|a| format!("-gencode=arch=compute_{a},code=sm_{a}"));
        let ptx = self.ptx.iter().map(|a| format!("-gencode=arch=compute_{a},code=compute_{a}"));
        machine_code.chain(ptx).collect()
    }

    pub fn names(&self) -> Vec<String> {
        let machine_code = self.machine_code.iter().map(|a| format!("sm_{a}"));
        machine_code.chain(self.ptx.iter().map(|a| format!("compute_{a}"))).collect()
    }
}

fn one(asked: &str) -> Result<String, String> {
    let plain = asked.strip_prefix("sm_").unwrap_or(asked).replacen('.', "", 1);
    let digits = plain.trim_end_matches(['a', 'f']);
    let number: u32 = digits
        .parse()
        .ok()
        .filter(|_| (2..=3).contains(&digits.len()) && plain.len() - digits.len() <= 1)
        .ok_or_else(|| format!("'{asked}' is no compute capability"))?;
    if number < OLDEST {
        return Err(format!("'{asked}' is older than the kernels can do with"));
    }
    Ok(plain)
}
