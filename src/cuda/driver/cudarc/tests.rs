//! What can be seen without a GPU: that kerase says what is missing. With one, that all of it works is shown by
//! `kerase validate`.

use super::*;
use crate::cuda::driver::fatbins::{CUDA_BUILD, CudaBuild};
use crate::cuda::driver::gpus;

#[test]
fn a_gpu_that_cannot_be_opened_says_why_and_what_to_do() {
    let Err(error) = Gpu::open(4096, &[]) else { panic!("no machine has 4097 GPUs") };
    let message = error.to_string();
    assert!(matches!(error, Error::Input(_)), "{message}");
    assert!(message.starts_with("--device cuda:4096: "), "{message}");
    match (CUDA_BUILD, gpus::describe()) {
        (CudaBuild::Absent { reason }, _) => {
            assert!(message.contains(reason) && message.contains("install-nvcc.sh"), "{message}");
        }
        (_, Err(reason)) => assert!(message.contains(&reason), "{message}"),
        (_, Ok(_)) => assert!(message.contains("no such GPU"), "{message}"),
    }
}
