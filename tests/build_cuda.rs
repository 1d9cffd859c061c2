//! What the build script reads from variables and from nvcc; the compilation itself is seen to by every build.

#[allow(dead_code)]
#[path = "../build/cuda.rs"]
mod cuda;

use cuda::Wish;
use cuda::architectures::Architectures;
use cuda::nvcc::{Version, host};

#[test]
fn the_usual_architectures_have_ptx() {
    for value in [None, Some(""), Some("all")] {
        let names = Architectures::parse(value).unwrap().names();
        assert_eq!(names, ["sm_80", "sm_86", "sm_89", "sm_90a", "compute_80", "compute_90"], "{value:?}");
    }
}

#[test]
fn architectures_are_what_was_asked_for() {
    for (value, expected) in [
        ("90a", vec!["sm_90a"]),
        ("80,90a", vec!["sm_80", "sm_90a"]),
        (" 8.6 , sm_89,86", vec!["sm_86", "sm_89"]),
        ("120", vec!["sm_120"]),
        ("12.0f", vec!["sm_120f"]),
    ] {
        assert_eq!(Architectures::parse(Some(value)).unwrap().names(), expected, "{value}");
    }
    let arguments = Architectures::parse(Some("90a")).unwrap().arguments();
    assert_eq!(arguments, ["-gencode=arch=compute_90a,code=sm_90a"]);
}

#[test]
fn what_is_no_architecture_is_refused() {
    for value in ["h100", "9", "90aa", "80,,90a", "80;90", "1234", "75", "sm_70", "all,80"] {
        let message = Architectures::parse(Some(value)).unwrap_err();
        assert!(message.contains(&format!("CUDA_COMPUTE_CAP={value}")), "{message}");
        assert!(message.contains("such as"), "{message}");
    }
}

#[test]
fn wishes() {
    assert_eq!(Wish::parse(None), Ok(Wish::Auto));
    assert_eq!(Wish::parse(Some("require")), Ok(Wish::Require));
    assert_eq!(Wish::parse(Some("off")), Ok(Wish::Off));
    let message = Wish::parse(Some("on")).unwrap_err();
    assert!(message.contains("KERASE_CUDA=on") && message.contains("auto, require or off"), "{message}");
}

#[test]
fn the_version_is_read_from_what_nvcc_prints() {
    let printed =
        "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.4, V12.4.131\nBuild x\n";
    let version = Version::parse(printed).unwrap();
    assert_eq!((version.text.as_str(), version.major, version.minor), ("12.4.131", 12, 4));
    assert_eq!(Version::parse("gcc (Debian) 12.2"), None);
}

#[test]
fn a_compiler_with_options_is_not_handed_on() {
    let host = |a: &str, b: &str| host(Some(a.into()), Some(b.into()));
    assert_eq!(host("g++-12", "clang++").as_deref(), Some("g++-12"));
    assert_eq!(host("", "clang++").as_deref(), Some("clang++"));
    assert_eq!(host("", "ccache g++"), None);
}
