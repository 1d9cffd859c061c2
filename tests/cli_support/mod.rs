//! What the tests of the command line share: the program itself, in a folder of its own, and weights to give it.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kerase::model::{Architecture, Weights};

/// A folder that commands run in, gone when dropped.
pub struct Folder(tempfile::TempDir);

/// How a command ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `kerase` with a line of arguments.
    pub fn kerase(&self, arguments: &str) -> Ended {
        Ended::of(kerase_in(self, arguments).output().unwrap())
    }

    /// Runs a line of shell in which `$KERASE` is the program.
    #[cfg(unix)]
    pub fn shell(&self, line: &str) -> Ended {
        let mut command = Command::new("sh");
        command.current_dir(self.0.path()).env("KERASE", env!("CARGO_BIN_EXE_kerase")).args(["-c", line]);
        Ended::of(command.output().unwrap())
    }

    /// Three slices of 4 coils in each of two brains, of 5 coils and another matrix in each of two knees.
    pub fn simulate(&self) {
        let sizes = "--volumes 2 --slices 3";
        self.kerase(&format!("simulate --anatomy brain {sizes} --coils 4 --matrix 64 32 --out brain"))
            .succeeded();
        self.kerase(&format!(
            "simulate --anatomy knee {sizes} --coils 5 --matrix 72 40 --acquired-lines 37 --out knee"
        ))
        .succeeded();
    }

    /// The paths of all files in these folders, one a line: a manifest.
    pub fn all_of(&self, folders: &[&str]) -> String {
        let files = folders
            .iter()
            .flat_map(|name| self.list(name).into_iter().map(move |file| format!("{name}/{file}\n")));
        files.collect()
    }

    /// Has a volume that was fully sampled bring a mask of its own, as some prospectively undersampled ones do.
    pub fn add_mask(&self, name: &str) {
        let file = hdf5_pure::File::open_rw(self.path(name)).unwrap();
        let columns = *file.dataset("kspace").unwrap().shape().unwrap().last().unwrap() as usize;
        let mask: Vec<u8> =
            (0..columns).map(|x| u8::from(x % 2 == 0 || x.abs_diff(columns / 2) < 4)).collect();
        file.root()
            .create_dataset("mask", |builder| {
                builder.with_u8_data(&mask);
            })
            .unwrap();
        file.commit().unwrap();
    }

    /// A network that has learnt nothing.
    pub fn weights(&self, name: &str) -> Weights {
        let architecture = Architecture { cascades: 2, chans: 2, pools: 2, sens_chans: 2, sens_pools: 2 };
        let parameters = architecture.initial_parameters(1);
        let weights = Weights { architecture, parameters, metadata: Default::default() };
        weights.write(self.path(name)).unwrap();
        weights
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// All files and folders under `name`, hidden ones included, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        let root = self.path(name);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.strip_prefix(&root).unwrap().display().to_string());
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// All files under `name` with what they hold.
    pub fn contents(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let path = |file: &str| format!("{name}/{file}");
        let files = self.list(name).into_iter().filter(|file| self.path(&path(file)).is_file());
        files.map(|file| (file.clone(), self.read(&path(&file)))).collect()
    }
}

/// `kerase` with a line of arguments, to be run in a folder.
pub fn kerase_in(folder: &Folder, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kerase"));
    command.current_dir(folder.path("")).args(arguments.split_whitespace());
    command
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Ended with this code and one error message, which has all of these parts.
    #[track_caller]
    pub fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stderr.matches("error: ").count(), 1, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "'{part}' is not in: {}", self.stderr);
        }
    }
}

/// A file that h5py wrote.
pub fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data").join(name).display().to_string()
}
