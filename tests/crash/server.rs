//! A server that can be killed: a child of the test, so that none of it is left as a zombie.

use api_tokens_tests::*;
use postgres::Client;
use std::fs::{File, read_to_string};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

pub struct Server {
    home: PathBuf,
    postmaster: Child,
}

impl Server {
    const PORT: u16 = 5435;
    const DATABASE: &str = "crashed";

    /// With the extension in a new database; the cluster is made once for all tests.
    pub fn start() -> Self {
        let home = cluster_dir().join("crash");
        let data = home.join("data");
        if !data.exists() {
            let data = data.to_str().expect("utf-8");
            let trust = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"];
            assert!(as_server("initdb", &trust));
        }
        let postmaster = Self::spawn(&home);
        let mut server = Self { home, postmaster };
        server.revive();
        let mut admin = server.try_connect("postgres").expect("connect");
        let drop = format!("DROP DATABASE IF EXISTS {}", Self::DATABASE);
        admin.batch_execute(&drop).expect("drop");
        admin.batch_execute(&format!("CREATE DATABASE {}", Self::DATABASE)).expect("create");
        server.connect().batch_execute("CREATE EXTENSION api_tokens").expect("create extension");
        server
    }

    fn spawn(home: &std::path::Path) -> Child {
        let settings = [
            "listen_addresses=".to_owned(),
            format!("port={}", Self::PORT),
            format!("unix_socket_directories={}", host()),
            format!("api_tokens.vault_key_file={}", cluster_dir().join("vault.keys").display()),
            "shared_preload_libraries=api_tokens".to_owned(),
            "api_tokens.flush_interval=1".to_owned(),
            "fsync=on".to_owned(),
            // After a crash, one call for all files, and not one for each.
            "recovery_init_sync_method=syncfs".to_owned(),
            "autovacuum_naptime=1".to_owned(),
            // What nobody waits for is not yet durable when it crashes.
            "wal_writer_delay=10s".to_owned(),
        ];
        let data = home.join("data");
        let owner = std::fs::metadata(&data).expect("data");
        let log = File::options().create(true).append(true).open(home.with_extension("log"));
        let log = log.expect("log");
        let mut postgres = Command::new(bin_dir().join("postgres"));
        postgres.uid(owner.uid()).gid(owner.gid()).arg("-D").arg(data);
        for setting in settings {
            postgres.args(["-c", &setting]);
        }
        postgres.stdout(log.try_clone().expect("log")).stderr(log).spawn().expect("postgres")
    }

    fn try_connect(&self, database: &str) -> Option<Client> {
        connect_on(Self::PORT, "postgres", database).ok()
    }

    pub fn connect(&self) -> Client {
        self.try_connect(Self::DATABASE).expect("connect to the server that is crashed")
    }

    /// Waits until it is there again, and starts it if it does not come by itself. Not at once: what is
    /// left of one that was killed must have ended.
    pub fn revive(&mut self) {
        eventually("the server is back", || {
            if self.postmaster.try_wait().expect("wait").is_some() {
                self.postmaster = Self::spawn(&self.home);
            }
            self.try_connect("postgres").is_some()
        });
    }

    pub fn stop_at_once(&mut self) {
        let data = self.home.join("data");
        let data = data.to_str().expect("utf-8");
        assert!(as_server("pg_ctl", &["-D", data, "-m", "immediate", "-w", "stop"]));
        self.postmaster.wait().expect("wait");
    }

    pub fn kill_postmaster(&mut self) {
        self.postmaster.kill().expect("kill");
        self.postmaster.wait().expect("wait");
    }

    /// Kills a process with this in its title, if there is one; the postmaster then ends all others and
    /// begins anew.
    pub fn kill_one(&mut self, title: &str) {
        match self.find(title) {
            Some(pid) if kill(&pid) => {}
            _ => self.kill_postmaster(),
        }
    }

    fn find(&self, title: &str) -> Option<String> {
        let parent = format!("PPid:\t{}\n", self.postmaster.id());
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let is_it = |path: &PathBuf| {
            let read = |name| read_to_string(path.join(name)).unwrap_or_default();
            read("cmdline").contains(title) && read("status").contains(&parent)
        };
        let found = processes.map(|process| process.path()).find(is_it)?;
        Some(found.file_name()?.to_string_lossy().into_owned())
    }
}

fn kill(pid: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("kill -KILL {pid}")])
        .status()
        .is_ok_and(|it| it.success())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -QUIT {}", self.postmaster.id())])
            .status();
        let _ = self.postmaster.wait();
    }
}
