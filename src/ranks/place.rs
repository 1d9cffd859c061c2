//! Which of how many processes this one is, and where they meet: what torchrun, SLURM, an mpirun or kerase itself put into
//! the environment.

use crate::error::{Error, Result};

/// A process among those that share the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub rank: usize,
    pub size: usize,
    /// Among the ranks of this machine.
    pub local_rank: usize,
    /// Ranks of this machine; 1 where the launcher does not say.
    pub local_size: usize,
    /// Host and port that rank 0 listens on. Empty for a process that is alone.
    pub address: String,
}

/// Variables of one launcher.
struct Names {
    launcher: &'static str,
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
    local_size: &'static str,
    /// How the ranks are given a place to meet.
    meeting: &'static str,
}

const TORCHRUN: Names = Names {
    launcher: "torchrun or kerase --ranks",
    rank: "RANK",
    size: "WORLD_SIZE",
    local_rank: "LOCAL_RANK",
    local_size: LOCAL_SIZE,
    meeting: MEETING,
};

const OPEN_MPI: Names = Names {
    launcher: "mpirun",
    rank: "OMPI_COMM_WORLD_RANK",
    size: "OMPI_COMM_WORLD_SIZE",
    local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
    meeting: "build kerase with --features mpi, or give mpirun -x MASTER_ADDR -x MASTER_PORT with the first node's name and a \
              free port",
};

/// MPICH's and Intel's, which SLURM may have started on each node in its turn.
const HYDRA: Names = Names {
    launcher: "mpiexec",
    rank: "PMI_RANK",
    size: "PMI_SIZE",
    local_rank: "MPI_LOCALRANKID",
    local_size: "MPI_LOCALNRANKS",
    meeting: "build kerase with --features mpi, or give mpiexec -genv MASTER_ADDR … -genv MASTER_PORT … with the first node's \
              name and a free port",
};

/// Those of a job step: a batch script itself, which has SLURM_PROCID and SLURM_NTASKS too, is no rank.
const SLURM: Names = Names {
    launcher: "srun",
    rank: "SLURM_PROCID",
    size: "SLURM_STEP_NUM_TASKS",
    local_rank: "SLURM_LOCALID",
    local_size: "SLURM_STEP_TASKS_PER_NODE",
    meeting: MEETING,
};

/// As torchrun and kerase itself say it.
pub const LOCAL_SIZE: &str = "LOCAL_WORLD_SIZE";
const MEETING: &str =
    "set it to the name of rank 0's machine (MASTER_ADDR) and a free port there (MASTER_PORT)";
/// True where torchrun's agent itself listens at MASTER_PORT.
pub const AGENT_LISTENS: &str = "TORCHELASTIC_USE_AGENT_STORE";

const ADDRESS: &str = "MASTER_ADDR";
const PORT: &str = "MASTER_PORT";

/// SLURM's jobs meet at a port from here on, unless MASTER_PORT says otherwise: below those that Linux gives to whoever asks
/// for any, 32768 and up.
const FIRST_PORT: u64 = 20_000;
const PORTS: u64 = 12_000;

impl Place {
    /// That of a process that shares its work with nobody.
    pub const ALONE: Self = Self { rank: 0, size: 1, local_rank: 0, local_size: 1, address: String::new() };

    /// What the environment says; `get` looks a variable up.
    ///
    /// # Errors
    /// [`Error::Input`] for variables that contradict each other, and where several ranks have no place to meet.
    pub fn from_environment(get: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        // SLURM sets PMI_SIZE for MPI too, but never what MPICH's launcher says of the machine.
        let started_by = |names: &&Names| {
            get(names.size).is_some() && (names.launcher != HYDRA.launcher || get(names.local_rank).is_some())
        };
        let Some(names) = [&TORCHRUN, &OPEN_MPI, &HYDRA, &SLURM].into_iter().find(started_by) else {
            return Ok(Self::ALONE);
        };
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = get(name) else { return Ok(None) };
            text.parse().map(Some).map_err(|_| {
                Error::input(format!(
                    "{name}={text} in the environment: expected a number, as {} gives",
                    names.launcher
                ))
            })
        };
        let size = number(names.size)?.unwrap_or(1);
        if size <= 1 {
            return Ok(Self::ALONE);
        }
        let missing = |name: &str| {
            Error::input(format!(
                "{}={size} in the environment, but no {name}: start the ranks with {}, or unset {}",
                names.size, names.launcher, names.size
            ))
        };
        let rank = number(names.rank)?.ok_or_else(|| missing(names.rank))?;
        if rank >= size {
            return Err(Error::input(format!(
                "{}={rank} and {}={size} in the environment: ranks count from 0 to {}",
                names.rank,
                names.size,
                size - 1
            )));
        }
        let (host, port) = match names.launcher {
            name if name == SLURM.launcher => (
                get(ADDRESS).or_else(|| first_host(&get("SLURM_STEP_NODELIST")?)),
                get(PORT).or_else(|| job_port(&get)),
            ),
            _ => (get(ADDRESS), get(PORT)),
        };
        let nowhere = |name: &str| {
            Error::input(format!(
                "{}={size} in the environment, but no {name}: the ranks have no place to meet; {}",
                names.size, names.meeting
            ))
        };
        let host = host.ok_or_else(|| nowhere(ADDRESS))?;
        let port = port.ok_or_else(|| nowhere(PORT))?;
        let port: u16 = port.parse().ok().filter(|&port| port > 0).ok_or_else(|| {
            Error::input(format!("{PORT}={port} in the environment: expected a number from 1 to 65535"))
        })?;
        let taken = get(AGENT_LISTENS).is_some_and(|value| value == "True");
        let port = if taken { port.checked_add(1).unwrap_or(FIRST_PORT as u16) } else { port };
        Ok(Self {
            rank,
            size,
            local_rank: number(names.local_rank)?.unwrap_or(0),
            local_size: get(names.local_size).and_then(|text| leading(&text)).unwrap_or(1),
            // An IPv6 address needs brackets before a port.
            address: if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
        })
    }

    /// Whether this rank speaks for all.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }
}

/// Of SLURM's "4(x2),3", which means 4 on each of two nodes and 3 on another, 4: nodes that differ are rare.
fn leading(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok().filter(|&size| size > 0)
}

/// The first host of SLURM's "gpu[01-04,07],cpu3": gpu01. Several brackets, as in "rack[1-2]node[3-4]", each stand for
/// their first number.
fn first_host(list: &str) -> Option<String> {
    let (mut host, mut rest) = (String::new(), list);
    while let Some(at) = rest.find(['[', ',']) {
        host += &rest[..at];
        if rest[at..].starts_with(',') {
            rest = "";
            break;
        }
        let (numbers, after) = rest[at + 1..].split_once(']')?;
        host += numbers.split(['-', ',']).next()?;
        rest = after;
    }
    host += rest;
    (!host.is_empty()).then_some(host)
}

/// A port that two job steps on one node hardly share.
fn job_port(get: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let job: u64 = get("SLURM_JOB_ID")?.parse().ok()?;
    let step: u64 = get("SLURM_STEP_ID").and_then(|text| text.parse().ok()).unwrap_or(0);
    Some((FIRST_PORT + (job.wrapping_mul(37).wrapping_add(step)) % PORTS).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Result<Place> {
        Place::from_environment(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        place(variables).unwrap_err().to_string()
    }

    #[test]
    fn nothing_or_one_is_alone() {
        assert_eq!(place(&[]).unwrap(), Place::ALONE);
        assert_eq!(place(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(), Place::ALONE);
        // A batch script: its own task 0, without a step.
        assert_eq!(place(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]).unwrap(), Place::ALONE);
    }

    #[test]
    fn torchruns_variables() {
        let mut variables = vec![
            ("WORLD_SIZE", "8"),
            ("RANK", "5"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "fe80::1"),
            ("MASTER_PORT", "29500"),
        ];
        let address = "[fe80::1]:29500".to_string();
        let expected = Place { rank: 5, size: 8, local_rank: 1, local_size: 4, address };
        assert_eq!(place(&variables).unwrap(), expected);
        variables.push(("TORCHELASTIC_USE_AGENT_STORE", "True"));
        assert_eq!(place(&variables).unwrap().address, "[fe80::1]:29501");
        variables[1].1 = "8";
        assert!(refused(&variables).contains("from 0 to 7"));
        variables[1].1 = "five";
        assert!(refused(&variables).contains("RANK=five"));
        variables.remove(1);
        assert!(refused(&variables).contains("no RANK"));
    }

    #[test]
    fn ranks_without_a_place_to_meet() {
        let message = refused(&[("WORLD_SIZE", "2"), ("RANK", "0")]);
        assert!(message.contains("WORLD_SIZE=2") && message.contains("no MASTER_ADDR"), "{message}");
        let message =
            refused(&[("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "0")]);
        assert!(message.contains("MASTER_PORT=0"), "{message}");
        let message = refused(&[("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")]);
        assert!(message.contains("--features mpi") && message.contains("-x MASTER_ADDR"), "{message}");
        let message = refused(&[("PMI_SIZE", "2"), ("PMI_RANK", "1"), ("MPI_LOCALRANKID", "1")]);
        assert!(message.contains("--features mpi") && message.contains("-genv MASTER_ADDR"), "{message}");
    }

    #[test]
    fn mpiexecs_variables_go_before_those_of_the_job_step_that_started_it() {
        let mut variables = vec![
            ("PMI_SIZE", "4"),
            ("PMI_RANK", "3"),
            ("MPI_LOCALRANKID", "1"),
            ("MPI_LOCALNRANKS", "2"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_PROCID", "1"),
            ("SLURM_STEP_TASKS_PER_NODE", "1(x2)"),
            ("MASTER_ADDR", "a"),
            ("MASTER_PORT", "29500"),
        ];
        let address = "a:29500".to_string();
        let expected = Place { rank: 3, size: 4, local_rank: 1, local_size: 2, address: address.clone() };
        assert_eq!(place(&variables).unwrap(), expected);
        // Without it, srun's own ranks.
        variables.drain(2..4);
        let expected = Place { rank: 1, size: 2, local_rank: 0, local_size: 1, address };
        assert_eq!(place(&variables).unwrap(), expected);
        assert_eq!(["8", "4(x2),3", "", "x2", "0"].map(leading), [Some(8), Some(4), None, None, None]);
    }

    #[test]
    fn slurms_variables() {
        let place = place(&[
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_PROCID", "6"),
            ("SLURM_LOCALID", "2"),
            ("SLURM_STEP_NODELIST", "gpu[07-08,11]"),
            ("SLURM_JOB_ID", "1234"),
            ("SLURM_STEP_ID", "0"),
        ])
        .unwrap();
        assert_eq!(place.address, "gpu07:29658");
        assert_eq!((place.rank, place.size, place.local_rank), (6, 8, 2));
        assert_eq!(first_host("node3,gpu[1-2]").unwrap(), "node3");
        assert_eq!(first_host("gpu[9]").unwrap(), "gpu9");
        assert_eq!(first_host("rack[1-2]node[3-4],x").unwrap(), "rack1node3");
        assert_eq!(first_host("gpu[01,03]-ib,gpu9").unwrap(), "gpu01-ib");
        assert_eq!(first_host(""), None);
    }

    #[test]
    fn jobs_meet_below_the_ports_that_the_system_gives_away() {
        for job in 0..PORTS {
            let get = |name: &str| (name == "SLURM_JOB_ID").then(|| job.to_string());
            let port: u64 = job_port(&get).unwrap().parse().unwrap();
            assert!((FIRST_PORT..32_768).contains(&port), "{port}");
        }
    }
}
