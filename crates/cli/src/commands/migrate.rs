//! `weightbridge migrate`.

use crate::args::{Common, MigrateCommand, MigrateDType, MigratePlanArgs, MigrateRunArgs};
use crate::show::{self, Paint, Tone};
use crate::{exit, workers};
use ir::{Error, Fault, Result};
use migrate::{
    Action, Failure, Line, PlanRequest, Planned, Remark, RunReport, RunRequest, Settings, Status,
};
use serde_json::{Value, json};
use std::path::Path;
use weightbridge::{Policy, Session};

/// Most of a kind shown to a person without `--verbose`.
const SHOWN: usize = 8;

pub(crate) fn run(step: &MigrateCommand, common: &Common, session: &Session) -> Result<u8> {
    match step {
        MigrateCommand::Plan(args) => plan(args, common, session),
        MigrateCommand::Run(args) => work(args, common, session),
        MigrateCommand::Status { plan } => status(plan, common),
    }
}

fn plan(args: &MigratePlanArgs, common: &Common, session: &Session) -> Result<u8> {
    migrate::refuse_output(&args.root, &args.output)?;
    if args.output.exists() && !args.overwrite {
        return Err(Error::from(Fault::OutputExists).in_file(&args.output));
    }
    let policy = (args.policy != Policy::Default).then(|| args.policy.name().to_owned());
    let quantize = args.quantize.as_ref().map_or_else(Vec::new, |types| {
        types.0.iter().map(|kind| kind.name().to_owned()).collect()
    });
    if !quantize.is_empty() && args.to != "gguf" {
        let what = "--quantize makes GGUF files: --to gguf".to_owned();
        return Err(Error::from(Fault::Usage { what }));
    }
    let request = PlanRequest {
        root: args.root.clone(),
        dest: args.dest.clone(),
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        settings: Settings {
            to: args.to.clone(),
            dtype: args.dtype.and_then(MigrateDType::name).map(str::to_owned),
            quantize: None,
            shard_size: args.shard_size.map(|size| size.0),
            policy,
            link: args.link,
        },
        quantize,
        digests: args.digests,
    };
    // A plan tells a line a model itself: only bars are of use while it is made.
    let quiet = Common {
        quiet: common.quiet || !is_terminal(),
        ..common.clone()
    };
    let planned = migrate::plan(&request, session, &*workers::observer(&quiet))?;
    planned.write(&args.output, args.overwrite)?;
    if common.json {
        show::document(&plan_document(&args.output, &planned));
    }
    if !common.quiet {
        tell_plan(&args.output, &planned, common);
    }
    Ok(exit::OK)
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

fn of(planned: &Planned, action: Action) -> impl Iterator<Item = &Line> {
    planned
        .lines
        .iter()
        .filter(move |line| line.action == action)
}

fn plan_document(path: &Path, planned: &Planned) -> Value {
    let converts = || of(planned, Action::Convert);
    json!({
        "plan": path.to_string_lossy(),
        "convert": converts().count(),
        "copy": of(planned, Action::Copy).count(),
        "leave": of(planned, Action::Leave).count(),
        "problems": planned.lines.iter()
            .filter(|line| line.problem.is_some())
            .map(|line| json!({ "model": line.model, "action": line.action, "problem": line.problem }))
            .collect::<Vec<_>>(),
        "passed_over": planned.remarks.iter()
            .map(|remark| json!({ "path": remark.path, "what": remark.what }))
            .collect::<Vec<_>>(),
        "unmatched": planned.unmatched.iter()
            .map(|remark| json!({ "pattern": remark.path, "what": remark.what }))
            .collect::<Vec<_>>(),
        "nbytes_in": converts().map(|line| line.bytes_in).sum::<u64>(),
        "nbytes_out": planned.lines.iter().map(|line| line.bytes_out).sum::<u64>(),
    })
}

fn tell_plan(path: &Path, planned: &Planned, common: &Common) {
    let paint = Paint::new(common, false);
    let shown = if common.verbose { usize::MAX } else { SHOWN };
    let list = |word: &str, tone: Tone, all: Vec<(String, String)>| {
        for (what, why) in all.iter().take(shown) {
            let word = paint.text(tone, &format!("{word:8}"));
            let what = if what.is_empty() { "." } else { what };
            // A name may hold a line's end.
            let told = show::printable(&format!("{what}: {why}")).replace('\n', "\\n");
            note!("  {word} {told}");
        }
        if all.len() > shown {
            note!("  …        {} more (all with -v)", all.len() - shown);
        }
    };
    let problems = |action| {
        let all = of(planned, action)
            .filter_map(|line| Some((line.model.clone(), line.problem.clone()?)));
        all.collect::<Vec<_>>()
    };
    list("problem", Tone::Bad, problems(Action::Convert));
    list("left", Tone::Odd, problems(Action::Leave));
    let told = |remarks: &[Remark]| {
        let told = remarks.iter();
        told.map(|remark| (remark.path.clone(), remark.what.clone()))
            .collect()
    };
    list("passed", Tone::Dim, told(&planned.remarks));
    list("unused", Tone::Odd, told(&planned.unmatched));
    let converts = of(planned, Action::Convert);
    let (count, read) = converts.fold((0, 0u64), |(n, bytes), line| {
        (n + 1, bytes.saturating_add(line.bytes_in))
    });
    let written = planned
        .lines
        .iter()
        .fold(0u64, |sum, line| sum.saturating_add(line.bytes_out));
    let path = show::printable(&path.to_string_lossy());
    note!(
        "{} to convert, {}; some {} will be written",
        show::count(count, "model"),
        show::bytes(read),
        show::bytes(written)
    );
    note!(
        "wrote {}; look through it, then: weightbridge migrate run {path}",
        paint.text(Tone::Strong, &path)
    );
}

fn work(args: &MigrateRunArgs, common: &Common, session: &Session) -> Result<u8> {
    let request = RunRequest {
        plan: args.plan.clone(),
        jobs: args.jobs,
        delete_originals: args.delete_originals,
        task: args.task,
    };
    let report = migrate::run(&request, session, &workers::observer(common))?;
    if common.json {
        show::document(&run_document(args, &report));
    }
    tell_failures(&report.failed, Paint::new(common, false));
    if !common.quiet {
        tell_run(&report);
    }
    Ok(if report.failed.is_empty() {
        exit::OK
    } else {
        exit::NO
    })
}

fn failures(failed: &[Failure]) -> Value {
    let one = |failure: &Failure| {
        json!({
            "line": failure.line,
            "model": failure.model,
            "class": failure.class,
            "message": failure.message,
            "help": failure.help,
        })
    };
    failed.iter().map(one).collect()
}

fn run_document(args: &MigrateRunArgs, report: &RunReport) -> Value {
    json!({
        "plan": args.plan.to_string_lossy(),
        "task": args.task.map(|task| task.to_string()),
        "models": report.models,
        "done": report.done,
        "already": report.already,
        "leave": report.left,
        "failed": failures(&report.failed),
        "nbytes_in": report.bytes_in,
        "nbytes_out": report.bytes_out,
        "nbytes_removed": report.bytes_removed,
        "originals_kept": report.kept,
        "seconds": report.seconds,
    })
}

fn tell_failures(failed: &[Failure], paint: Paint) {
    for failure in failed {
        let word = paint.text(Tone::Bad, "failed");
        let model = match failure.model.as_str() {
            "" => String::new(),
            model => format!(", {model}"),
        };
        let text = format!("line {}{model}: {}", failure.line, failure.message);
        note!("  {word}   {}", show::printable(&text));
        if let Some(help) = &failure.help {
            note!("           {}", show::printable(help));
        }
    }
}

fn rate(bytes: u64, seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate for people
    let rate = (bytes as f64 / seconds.max(1e-6)) as u64;
    show::bytes(rate)
}

fn tell_run(report: &RunReport) {
    let mut text = format!(
        "{} done, {} done before, {} failed",
        show::thousands(report.done),
        show::thousands(report.already),
        show::thousands(report.failed.len() as u64)
    );
    if report.left > 0 {
        text += &format!(", {} left alone as planned", show::thousands(report.left));
    }
    if report.bytes_removed > 0 {
        text += &format!(
            "; {} of originals removed",
            show::bytes(report.bytes_removed)
        );
    }
    note!("{text}");
    if report.kept > 0 {
        note!(
            "the originals of {} stay: a line that cannot be followed may be about them; mend it or take it out",
            show::count(report.kept, "model")
        );
    }
    note!(
        "{} written in {:.2} s, {}/s",
        show::bytes(report.bytes_out),
        report.seconds,
        rate(report.bytes_out, report.seconds)
    );
}

fn status(plan: &Path, common: &Common) -> Result<u8> {
    let status = migrate::status(plan)?;
    if common.json {
        show::document(&status_document(plan, &status));
    } else {
        tell_status(&status, common);
    }
    Ok(if status.failed.is_empty() {
        exit::OK
    } else {
        exit::NO
    })
}

fn status_document(plan: &Path, status: &Status) -> Value {
    json!({
        "plan": plan.to_string_lossy(),
        "models": status.models,
        "done": status.done,
        "failed": failures(&status.failed),
        "pending": status.pending,
        "leave": status.left,
        "nbytes_done": status.bytes_done,
        "nbytes": status.bytes,
        "nbytes_removed": status.bytes_removed,
        "seconds": status.seconds,
        "nbytes_per_second": status.rate(),
    })
}

fn tell_status(status: &Status, common: &Common) {
    tell_failures(&status.failed, Paint::new(common, false));
    show::line(&format!(
        "{} of {} done, {} failed, {} to do, {} left alone",
        show::thousands(status.done),
        show::count(status.models, "model"),
        show::thousands(status.failed.len() as u64),
        show::thousands(status.pending),
        show::thousands(status.left)
    ));
    show::line(&format!(
        "{} of {} written, {}/s; {} of originals removed",
        show::bytes(status.bytes_done),
        show::bytes(status.bytes),
        rate(status.bytes_done, status.seconds),
        show::bytes(status.bytes_removed)
    ));
}
