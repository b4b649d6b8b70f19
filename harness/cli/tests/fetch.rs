//! Checkpoints of a hub: a server on this machine speaks its two routes, and what `goldgate fetch`
//! brings from it runs. Nothing here leaves the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What the hub holds and how it misbehaves.
#[derive(Default)]
struct Hub {
    /// `owner/name` → file → bytes.
    repos: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    /// The next answer with a file ends after so many bytes of it; 0: none does.
    cut: AtomicUsize,
    /// One byte of every file is another than the hub says.
    lies: bool,
    /// First lines and ranges, as they came.
    heard: Mutex<Vec<String>>,
}

impl Hub {
    /// One request of one connection.
    fn answer(&self, stream: &mut TcpStream, port: u16) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let range = head.iter().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("range").then(|| value.to_owned())
        });
        let range = range.unwrap_or_default();
        self.heard.lock().expect("whole").push(format!("{first} {range}"));
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["api", "models", owner, name, "revision", "main"] => {
                match self.repos.get(format!("{owner}/{name}").as_str()) {
                    None => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
                    Some(files) => {
                        let files: Vec<Value> =
                            files.keys().map(|name| json!({"rfilename": name})).collect();
                        let body = json!({"sha": COMMIT, "siblings": files}).to_string();
                        let length = body.len();
                        write!(
                            stream,
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                        )
                    }
                }
            }
            [owner, name, "resolve", "main", file] => {
                self.file(stream, (&format!("{owner}/{name}"), file), &range, Some(port))
            }
            ["store", owner, name, file] => {
                self.file(stream, (&format!("{owner}/{name}"), file), &range, None)
            }
            _ => write!(stream, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        }
    }

    /// A file, or where it lies: large ones are stored elsewhere, under their hash.
    fn file(
        &self,
        stream: &mut TcpStream,
        (repo, file): (&str, &str),
        range: &str,
        elsewhere: Option<u16>,
    ) -> std::io::Result<()> {
        let Some(bytes) = self.repos.get(repo).and_then(|files| files.get(file)) else {
            return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let large = !file.ends_with(".json");
        if let Some(port) = elsewhere.filter(|_| large) {
            let (hash, length) = (sha256(bytes), bytes.len());
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/store/{repo}/{file}\r\n\
                 X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{hash}\"\r\n\
                 X-Linked-Size: {length}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let (from, to) = range.trim_start_matches("bytes=").split_once('-').unwrap_or(("0", ""));
        let (from, all) = (from.parse().unwrap_or(0), bytes.len());
        let to = to.parse().map_or(all, |last: usize| (last + 1).min(all));
        let mut part = bytes[from..to].to_vec();
        let etag = &sha256(bytes)[..40];
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
             Content-Range: bytes {from}-{}/{all}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            to - 1,
            part.len()
        )?;
        if self.lies {
            part[0] ^= 1;
        }
        let cut = if part.len() > 1 { self.cut.swap(0, Ordering::SeqCst) } else { 0 };
        stream.write_all(if cut > 0 { &part[..cut] } else { &part })
    }

    /// Answers until the test ends; where it is asked.
    fn open(self) -> (String, Arc<Hub>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let hub = Arc::new(self);
        let serving = Arc::clone(&hub);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A reader that went away is the test's own doing.
                let _ = serving.answer(&mut stream, port);
            }
        });
        (format!("http://127.0.0.1:{port}"), hub)
    }
}

/// The tiny models as two repositories, one of a file and one of a folder.
fn hub() -> Hub {
    let models = root().join("golden/models");
    let read = |path: &str| fs::read(models.join(path)).expect("a shipped file");
    let folder = ["config.json", "model.safetensors"].map(|name| {
        let bytes = read(&format!("qwen2-awkward/hf/{name}"));
        (name.to_owned(), bytes)
    });
    let more = [("README.md".to_owned(), b"words".to_vec())];
    let gguf = [("a.gguf".to_owned(), read("llama-types/a.gguf"))];
    let folder = folder.into_iter().chain(more).collect();
    let repos = [("some/folder", folder), ("some/gguf", BTreeMap::from(gguf))];
    Hub { repos: BTreeMap::from(repos), ..Hub::default() }
}

/// Specs of the two repositories, beside an empty golden folder.
fn specs(sha256: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("specs/models")).expect("made");
    fs::create_dir_all(folder.path().join("golden")).expect("made");
    let hash = sha256.map(|hash| format!(", sha256: \"{hash}\"")).unwrap_or_default();
    let text = format!(
        "format: 1\nmodel: far-away\ngate: 2\nsource: a test\nfiles:\n  \
         gguf: {{ hub: {{ repo: some/gguf, revision: main, file: a.gguf{hash} }} }}\n  \
         hf: {{ hub: {{ repo: some/folder, revision: main }} }}\ncontext: 32\nloads:\n  \
         - name: fits\n    why: what was fetched is a model\n    within_s: 60\n"
    );
    fs::write(folder.path().join("specs/models/far-away.yaml"), text).expect("written");
    folder
}

/// Our program at a hub, with a home of its own and no way around it.
fn goldgate(at: &str, specs: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    for name in ["ALL_PROXY", "GOLDGATE_MODELS", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN"] {
        command.env_remove(name);
    }
    let folder = specs.join("specs");
    let specs_at = ["--specs", folder.to_str().expect("a path")];
    let home = specs.join("home");
    command.args([words, &specs_at].concat()).env("HF_ENDPOINT", at).env("HOME", home);
    command.current_dir(specs).output().expect("our own program")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

#[test]
fn what_was_fetched_is_found_and_runs() {
    let (at, served) = hub().open();
    let bytes = fs::read(root().join("golden/models/llama-types/a.gguf")).expect("shipped");
    let specs = specs(Some(&sha256(&bytes)));
    let run = ["run", "far-away", "--on", "cpu", "--json"];
    let statuses = |output: &Output| -> Vec<String> {
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let rows = report["report"]["rows"].as_array().expect("rows").iter();
        rows.filter(|row| row["stem"] == "far-away")
            .map(|r| r["verdict"]["status"].to_string())
            .collect()
    };
    let before = goldgate(&at, specs.path(), &run);
    assert_eq!(statuses(&before), ["\"not_run\"", "\"not_run\""], "{}", stderr(&before));
    // A run asks nobody.
    assert_eq!(served.heard.lock().expect("whole").len(), 0);

    let output = goldgate(&at, specs.path(), &["fetch", "far-away", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<&Value> = told.as_array().expect("a list").iter().map(|t| &t["form"]).collect();
    assert_eq!(names, ["far-away::gguf", "far-away::hf"]);
    assert_eq!((&told[0]["fetched"], &told[1]["fetched"]), (&json!(true), &json!(true)));
    assert_eq!(told[0]["sha256"], sha256(&bytes));
    // In the home that the environment names, in the layout of the hub.
    let cache = specs.path().join("home/.cache/huggingface/hub");
    assert!(cache.join(format!("models--some--gguf/snapshots/{COMMIT}/a.gguf")).exists());
    assert!(!cache.join(format!("models--some--folder/snapshots/{COMMIT}/README.md")).exists());

    let after = goldgate(&at, specs.path(), &run);
    assert_eq!(statuses(&after), ["\"pass\"", "\"pass\""], "{}", stderr(&after));
    let asked = served.heard.lock().expect("whole").len();
    let again = goldgate(&at, specs.path(), &["fetch", "all"]);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.lines().all(|line| line.starts_with("here ")), "{text}");
    assert_eq!(served.heard.lock().expect("whole").len(), asked);
}

#[test]
fn a_download_that_was_cut_off_goes_on() {
    let (at, served) = hub().open();
    served.cut.store(1000, Ordering::SeqCst);
    let specs = specs(None);
    let words = ["fetch", "far-away::gguf", "--into", "here"];
    let output = goldgate(&at, specs.path(), &words);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let line = stderr(&output);
    assert!(line.starts_with("error: could not fetch a.gguf of some/gguf at main: "), "{line}");
    assert!(
        line.ends_with("by hand as DIR/some/gguf/a.gguf, and name DIR with --models"),
        "{line}"
    );
    let output = goldgate(&at, specs.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let heard = served.heard.lock().expect("whole").join("\n");
    assert!(heard.contains("bytes=1000-"), "{heard}");
    let file = specs.path().join(format!("here/models--some--gguf/snapshots/{COMMIT}/a.gguf"));
    let whole = fs::read(root().join("golden/models/llama-types/a.gguf")).expect("shipped");
    assert!(fs::read(&file).expect("fetched") == whole);
    let words = ["run", "far-away::fits::gguf", "--on", "cpu", "--models", "here"];
    let output = goldgate(&at, specs.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn other_bytes_are_refused_and_not_kept() {
    // The hub's own hash is wrong: nothing stays.
    let (at, _) = Hub { lies: true, ..hub() }.open();
    let far = specs(None);
    let output = goldgate(&at, far.path(), &["fetch", "far-away::gguf", "--into", "here"]);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{line}");
    assert!(line.starts_with("error[HASH] file=") && line.contains("field=sha256"), "{line}");
    let file = far.path().join(format!("here/models--some--gguf/snapshots/{COMMIT}/a.gguf"));
    assert!(fs::symlink_metadata(&file).is_err());
    // The spec's is another: the same, and what lies there already is refused by it as well.
    let (at, _) = hub().open();
    let other = specs(Some(&"0".repeat(64)));
    let words = ["fetch", "far-away::gguf", "--into", "here"];
    let output = goldgate(&at, other.path(), &words);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).ends_with(&"0".repeat(64)), "{}", stderr(&output));
    let file = other.path().join("here/a.gguf");
    fs::write(&file, b"another").expect("written");
    let output = goldgate(&at, other.path(), &words);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(file.exists());
}

#[test]
fn without_a_way_to_the_hub_one_line_says_what_to_do() {
    // A port that was just given back: nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let specs = specs(None);
    for (form, what) in [("gguf", "a.gguf of some/gguf"), ("hf", "the files of some/folder")] {
        let output = goldgate(&at, specs.path(), &["fetch", &format!("far-away::{form}")]);
        let line = stderr(&output);
        assert_eq!((output.status.code(), line.lines().count()), (Some(4), 1), "{line}");
        assert!(line.starts_with(&format!("error: could not fetch {what} at main: ")), "{line}");
    }
    // A file that the hub does not have.
    let (at, _) = Hub { repos: BTreeMap::from([("some/gguf", BTreeMap::new())]), ..hub() }.open();
    let output = goldgate(&at, specs.path(), &["fetch", "far-away::gguf"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("404"), "{}", stderr(&output));
    let output = goldgate(&at, specs.path(), &["fetch", "nobody"]);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.ends_with("there are far-away::gguf, far-away::hf"), "{line}");
}
