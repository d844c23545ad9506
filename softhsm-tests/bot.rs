//! A bot of an office: an operator has added it, its agent has a configuration, and runs when told.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    failure::{Doing, Failure},
    office::Office,
    peers::ours,
    process::{Answer, Daemon, run, wait_until},
};

/// A bot with a directory of its own in the office's; its agent ends with this value.
#[derive(Debug)]
pub struct Bot {
    name: String,
    directory: PathBuf,
    environment: BTreeMap<String, PathBuf>,
    agent: Option<Daemon>,
}

impl Bot {
    /// A bot that an operator has added with `flags` of `chancery bot add` behind its name, as
    /// `--role login`; it joins by a token, which lies in its directory. Its configuration ends with
    /// `outputs`, in which `{at}` stands for that directory. It has not joined yet.
    ///
    /// # Errors
    ///
    /// The appliance refuses it, or a file cannot be written.
    pub fn add(
        office: &Office,
        name: &str,
        flags: &[&str],
        outputs: &str,
    ) -> Result<Self, Failure> {
        let bot = Self::new(office, name)?;
        let mut add = office.chancery(office.operator(), &["bot", "add", name])?;
        add.args(flags).arg("--out").arg(bot.path("token"));
        run(&mut add)?.success()?;
        let join = "[join]\nmethod = \"token\"\ntoken_file = \"{at}/token\"\n";
        bot.configure(office, join, outputs)?;
        Ok(bot)
    }

    /// A bot that nobody has added yet: it has a directory, and nothing in it.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub fn new(office: &Office, name: &str) -> Result<Self, Failure> {
        let directory = office.path(format!("bot-{name}"));
        fs::create_dir(&directory).doing("make a directory")?;
        let environment = BTreeMap::new();
        Ok(Self { name: name.to_owned(), directory, environment, agent: None })
    }

    /// Tells all its programs of a file by a variable, as PKCS#11 modules want it.
    pub fn tell(&mut self, variable: &str, path: &Path) {
        self.environment.insert(variable.to_owned(), path.to_owned());
    }

    /// Writes the agent's configuration anew: `join` and `outputs` are the rest of the file, in
    /// which `{at}` stands for the bot's directory. The directories of outputs are made.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn configure(&self, office: &Office, join: &str, outputs: &str) -> Result<(), Failure> {
        let at = self.directory.display().to_string();
        let text = format!(
            "server = \"https://localhost:{}\"\nca = \"{}\"\nname = \"{}\"\n\
             state_directory = \"{at}/state\"\n{}\n{}",
            office.api().port(),
            office.handoff("root.pem").display(),
            self.name,
            join.replace("{at}", &at),
            outputs.replace("{at}", &at),
        );
        let table: toml::Table = toml::from_str(&text).doing("read the configuration of a bot")?;
        let outputs = table.get("output").and_then(toml::Value::as_array);
        for output in outputs.into_iter().flatten() {
            if let Some(directory) = output.get("directory").and_then(toml::Value::as_str) {
                fs::create_dir_all(directory).doing("make a directory")?;
            }
        }
        let path = self.configuration();
        fs::write(&path, text).doing(format_args!("write {}", path.display()))
    }

    /// A path in the bot's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// The agent's configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.path("bot.toml")
    }

    /// Runs the agent once, to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started. That it does not succeed is an answer.
    pub fn run_once(&self) -> Result<Answer, Failure> {
        run(self.command("run")?.arg("--once"))
    }

    /// What `chancery bot status` says.
    ///
    /// # Errors
    ///
    /// It cannot be started. That something is wrong is an answer.
    pub fn status(&self) -> Result<Answer, Failure> {
        run(&mut self.command("status")?)
    }

    /// Starts the agent. Its log goes on in one file, however often it is started.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(&mut self) -> Result<(), Failure> {
        let mut command = self.command("run")?;
        let agent = Daemon::start("the bot's agent", &mut command, &self.path("agent.log"))?;
        self.agent = Some(agent);
        Ok(())
    }

    /// The running agent.
    ///
    /// # Errors
    ///
    /// It was not started.
    pub fn agent(&mut self) -> Result<&mut Daemon, Failure> {
        self.agent.as_mut().ok_or_else(|| Failure::new("the bot's agent was not started"))
    }

    /// Ends the agent as a power cut would.
    pub fn kill(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Asks the agent to end, and waits for it.
    pub fn stop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop();
        }
    }

    /// What the agent has logged.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String, Failure> {
        fs::read_to_string(self.path("agent.log")).doing("read the log of a bot's agent")
    }

    /// Waits until the agent's log says something.
    ///
    /// # Errors
    ///
    /// It does not, or the agent has ended.
    pub fn wait_for_log(&mut self, what: &str) -> Result<(), Failure> {
        self.agent()?.wait_until(PATIENCE, |log| log.contains(what))
    }

    /// Waits until a file is there, or until it is not: a bundle was put in place, or withdrawn.
    ///
    /// # Errors
    ///
    /// It does not come, or does not go; the failure has the agent's log.
    pub fn wait_for_file(&self, name: &str, there: bool) -> Result<(), Failure> {
        let path = self.path(name);
        let what = if there { "is there" } else { "is gone" };
        wait_until(&format!("{name} {what}"), PATIENCE, || Ok(path.exists() == there))
            .map_err(|failure| failure.said(self.log().unwrap_or_default()))
    }

    /// The bot as operators see it: `chancery bot show`.
    ///
    /// # Errors
    ///
    /// The appliance refuses.
    pub fn shown(&self, office: &Office) -> Result<Value, Failure> {
        let words = ["--json", "bot", "show", &self.name];
        let answer = run(&mut office.chancery(office.operator(), &words)?)?.success()?;
        serde_json::from_str(&answer.stdout).doing("read a bot")
    }

    /// `chancery bot WORD` with the agent's configuration.
    ///
    /// # Errors
    ///
    /// It was not built.
    pub fn command(&self, word: &str) -> Result<Command, Failure> {
        let mut command = Command::new(ours("chancery")?);
        command.envs(&self.environment);
        command.current_dir(&self.directory).args(["bot", word, "--config"]);
        command.arg(self.configuration());
        Ok(command)
    }
}

/// How long the agent may take for what it does at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
