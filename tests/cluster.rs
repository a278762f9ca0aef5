//! Servers beside the test's own, behind the same socket folder on ports of their own.

use crate::{as_server, cluster_dir, host};
use postgres::{Client, Config, Error, NoTls};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub fn connect_on(port: u16, user: &str, database: &str) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host(&host()).port(port).user(user).dbname(database);
    config.connect(NoTls)
}

/// Another cluster, new and empty; gone when it is dropped.
pub struct OtherCluster {
    home: PathBuf,
}

impl OtherCluster {
    pub const PORT: u16 = 5434;

    /// With these keys for its vault.
    pub fn start(key_file: &Path) -> Self {
        let other = Self { home: cluster_dir().join("other") };
        let data = other.path("data");
        let init = [
            "-D",
            &data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ];
        assert!(as_server("initdb", &init));
        let options = format!(
            "-c port={} -c listen_addresses= -c unix_socket_directories={} -c fsync=off -c api_tokens.vault_key_file={}",
            Self::PORT,
            host(),
            key_file.display()
        );
        // Beside it, so that it is there when the tests have ended: see `logs_test` in scripts/test.sh.
        let log = cluster_dir().join("other.log");
        let log = log.to_str().expect("utf-8");
        assert!(as_server("pg_ctl", &["-D", &data, "-l", log, "-w", "-o", &options, "start"]));
        other
    }

    pub fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().expect("utf-8").to_owned()
    }

    pub fn connect(&self, user: &str, database: &str) -> Client {
        connect_on(Self::PORT, user, database).expect("connect to the other cluster")
    }
}

impl Drop for OtherCluster {
    fn drop(&mut self) {
        as_server("pg_ctl", &["-D", &self.path("data"), "-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// A streaming replica of the test cluster; stopped and removed when dropped.
pub struct Standby {
    data: PathBuf,
    /// There is one folder and one port for it, so one at a time.
    _turn: MutexGuard<'static, ()>,
}

impl Standby {
    pub fn start() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let standby = Self { data: cluster_dir().join("standby"), _turn: turn };
        let path = standby.path();
        let host = host();
        let copy = ["-h", &host, "-U", "postgres", "-D", path, "-R", "-X", "stream", "-c", "fast"];
        assert!(as_server("pg_basebackup", &copy));
        let log = format!("{path}.log");
        let options = "-c port=5433";
        assert!(as_server("pg_ctl", &["-D", path, "-l", &log, "-w", "-o", options, "start"]));
        standby
    }

    fn path(&self) -> &str {
        self.data.to_str().expect("utf-8")
    }

    pub fn connect(&self, database: &str) -> Client {
        connect_on(5433, "postgres", database).expect("connect to the standby")
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        as_server("pg_ctl", &["-D", self.path(), "-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
