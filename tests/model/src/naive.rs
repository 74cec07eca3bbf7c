//! The naive decider. It is meant to be read from top to bottom, beside
//! docs/policy.md.

use crate::case::{Bundle, Case, Image, KINDS, Levels, Quote, Report, Rule, Told, Verdict};

/// The expected result.
#[must_use]
pub fn decide(case: &Case<'_>) -> Verdict {
    let (bundle, told) = (case.bundle, case.told);
    let mut wrong: Vec<String> = Vec::new();
    let mut known = false;
    let mut image = None;

    wrong.extend(freshness(bundle, told));
    let evidence = evidence(told);
    let verified = evidence.is_empty();
    wrong.extend(evidence);
    if !told.own_name || bundle.node.is_none() {
        wrong.push("node.enrolled".into());
    }
    if let Some(node) = bundle.node.as_ref().filter(|_| told.own_name && verified) {
        let identity = identity(node, told);
        known = identity.is_empty();
        wrong.extend(identity);
        wrong.extend(platform(bundle, told));
        let (found, refused) = judge_image(bundle, told);
        image = found;
        wrong.extend(refused);
    }
    wrong.extend(revocation(told));
    wrong.extend(parent(bundle, told, verified));
    wrong.extend(workload(bundle, told));
    if let (Some(image), true) = (image, told.known_workload && bundle.workload.is_some()) {
        wrong.extend(cedar(bundle, told, image));
    }

    match (wrong.is_empty(), &bundle.workload) {
        (true, Some(workload)) => Verdict::Permit {
            arguments: workload.arguments,
            environment: workload.environment,
            dynamic: workload.dynamic,
            warnings: warnings(bundle, told),
        },
        _ => {
            if !known {
                wrong.truncate(1);
            }
            Verdict::Denial { checks: wrong, told: known }
        }
    }
}

fn ids(checks: &[(&str, bool)]) -> Vec<String> {
    checks.iter().filter(|(_, wrong)| *wrong).map(|(id, _)| (*id).to_owned()).collect()
}

/// Seconds by which a clock may be behind the one that gave a start.
fn skew(bundle: &Bundle) -> u64 {
    bundle.skew.unwrap_or(10)
}

fn begun(span: (u64, u64), bundle: &Bundle, time: u64) -> bool {
    span.0 <= time + skew(bundle)
}

fn within(span: (u64, u64), bundle: &Bundle, time: u64) -> bool {
    begun(span, bundle, time) && time < span.1
}

fn freshness(bundle: &Bundle, told: &Told) -> Vec<String> {
    let old = told.nonce_age < 0 || told.nonce_age > bundle.evidence_seconds as i64;
    ids(&[
        ("bundle.not_before", !begun(bundle.valid, bundle, told.time)),
        ("bundle.expired", told.time >= bundle.valid.1),
        ("bundle.authority", !bundle.for_us),
        ("request.audience", !told.audience),
        ("request.statement", !told.statement),
        ("request.nonce", !told.nonce),
        ("request.seen", told.contradicted),
        ("request.nonce.age", old),
    ])
}

fn at_least(levels: Levels, floor: Levels) -> bool {
    levels.iter().zip(floor).all(|(level, floor)| *level >= floor)
}

/// Firmware keeps reported <= committed <= current and launch <= current.
fn evidence(told: &Told) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(report) = &told.report {
        let [current, committed, reported, launch] = report.tcbs;
        let ordered = at_least(committed, reported) && at_least(current, committed) && at_least(current, launch);
        if !ordered {
            wrong.push("snp.tcb.order".to_owned());
        } else if !told.this_session {
            wrong.push("evidence.binding".to_owned());
        }
    }
    if told.quote.is_some() && !told.this_session {
        wrong.push("tpm.nonce".to_owned());
    }
    wrong
}

fn identity(node: &crate::case::Node, told: &Told) -> Vec<String> {
    let satisfied = match node.minimum {
        "snp+tpm" => told.class() == "snp+tpm",
        "snp" => told.report.is_some(),
        _ => told.quote.is_some(),
    };
    let foreign_chip = told.report.as_ref().is_some_and(|report| !report.own_chip);
    let foreign_ak = told.quote.as_ref().is_some_and(|quote| !quote.own_ak);
    ids(&[
        ("evidence.class", !satisfied),
        ("node.chip_id", node.by_chip && foreign_chip),
        ("node.ak", node.by_ak && foreign_ak),
        ("node.activation", node.by_ek && told.quote.is_some() && !told.activated),
    ])
}

fn platform(bundle: &Bundle, told: &Told) -> Vec<String> {
    let mut wrong = ids(&[("evidence.admitted", !bundle.classes.contains(&told.class()))]);
    let Some(report) = &told.report else { return wrong };
    wrong.extend(ids(&[
        ("chip.generation", bundle.distrusts_generation),
        ("chip.id", bundle.distrusts_chip && report.own_chip),
    ]));
    for (kind, levels) in KINDS.iter().zip(report.tcbs) {
        for floor in bundle.floors.iter().filter(|floor| floor.on.contains(kind)) {
            let in_force = floor.deny_from.is_none_or(|from| told.time >= from);
            if in_force && !at_least(levels, floor.levels) {
                wrong.push(format!("snp.tcb.floor.{kind}"));
            }
        }
    }
    let lacks = |at: usize| bundle.requires[at] && !report.has[at];
    wrong.extend(ids(&[
        ("snp.platform.alias_check", lacks(0)),
        ("snp.platform.ciphertext_hiding", lacks(1)),
        ("snp.platform.ecc", lacks(2)),
        ("snp.platform.smt_disabled", lacks(3)),
        ("snp.policy.debug", report.allows[0]),
        ("snp.policy.migration", report.allows[1]),
    ]));
    wrong
}

/// The image that matches, or the closest one with its failed checks.
fn judge_image(bundle: &Bundle, told: &Told) -> (Option<usize>, Vec<String>) {
    let named = |image: &Image| match (&told.report, &told.quote) {
        (Some(report), _) => image.measurements.contains(&report.measurement),
        (None, Some(quote)) => image.boots.contains(&quote.boot),
        (None, None) => false,
    };
    let candidates = bundle.images.iter().enumerate().filter(|(_, image)| named(image));
    let judged = candidates.map(|(at, image)| (at, misfits(bundle, image, told)));
    match judged.min_by_key(|(_, wrong)| wrong.len()) {
        Some((at, wrong)) => (Some(at), wrong),
        None if told.report.is_some() => (None, vec!["snp.measurement".into()]),
        None => (None, vec!["tpm.reference".into()]),
    }
}

fn misfits(bundle: &Bundle, image: &Image, told: &Told) -> Vec<String> {
    let report = |wrong: fn(&Image, &Report) -> bool| told.report.as_ref().is_some_and(|report| wrong(image, report));
    let quote = |wrong: fn(&Image, &Quote) -> bool| told.quote.as_ref().is_some_and(|quote| wrong(image, quote));
    ids(&[
        ("reference.validity", !within(image.valid, bundle, told.time)),
        ("snp.vmpl", report(|image, report| report.vmpl != image.vmpl)),
        ("snp.guest_svn", report(|image, report| report.guest_svn < image.guest_svn)),
        ("snp.host_data", report(|image, report| image.host_data.is_some_and(|data| data != report.host_data))),
        ("tpm.reference.4", quote(|image, quote| !image.boots.contains(&quote.boot))),
    ])
}

fn revocation(told: &Told) -> Vec<String> {
    let withdrawn = |at: usize| told.revoked[at] && !told.lifted[at];
    ids(&[("node.revoked", withdrawn(0)), ("workload.revoked", withdrawn(1))])
}

fn parent(bundle: &Bundle, told: &Told, verified: bool) -> Vec<String> {
    match &told.parent {
        None => Vec::new(),
        Some(None) => vec!["parent.logged".into()],
        Some(Some(parent)) => ids(&[
            ("parent.same", !parent.same),
            ("parent.boot", verified && told.quote.is_some() && !parent.same_boot),
            ("parent.age", told.time.saturating_sub(parent.since) > bundle.renewal_seconds),
            ("parent.revoked", parent.revoked),
        ]),
    }
}

fn workload(bundle: &Bundle, told: &Told) -> Vec<String> {
    let Some(workload) = bundle.workload.as_ref().filter(|_| told.known_workload) else {
        return vec!["workload.known".into()];
    };
    ids(&[
        ("workload.arguments", workload.arguments.is_some_and(|bound| bound != told.arguments)),
        ("workload.environment", workload.environment.is_some_and(|bound| bound != told.environment)),
        ("workload.linking", told.dynamic && !workload.dynamic),
    ])
}

/// An error denies, whatever else; then a forbid; then it takes a permit.
fn cedar(bundle: &Bundle, told: &Told, image: usize) -> Vec<String> {
    let tagged = |tag| bundle.node.as_ref().is_some_and(|node| node.tags.contains(&tag));
    let since = match &told.parent {
        Some(Some(parent)) => parent.since,
        _ => told.time,
    };
    let renewal = matches!(told.parent, Some(Some(_)));
    let has = |rule: Rule| bundle.rules.contains(&rule);
    let permits = (has(Rule::PermitLab) && tagged("lab"))
        || (has(Rule::PermitBoth) && told.class() == "snp+tpm")
        || (has(Rule::PermitStatic) && !told.dynamic);
    let forbids = (has(Rule::ForbidBlue) && tagged("blue"))
        || (has(Rule::ForbidFirst) && !renewal)
        || (has(Rule::ForbidSecondImage) && image == 1)
        || (has(Rule::ForbidOldLines) && told.time as i64 - since as i64 > 500);
    if has(Rule::Err) {
        vec!["authz.error".into()]
    } else if forbids {
        vec!["authz.forbid".into()]
    } else {
        ids(&[("authz.permit", !permits)])
    }
}

fn warnings(bundle: &Bundle, told: &Told) -> Vec<(String, u64)> {
    let Some(report) = &told.report else { return Vec::new() };
    let mut all = Vec::new();
    for (kind, levels) in KINDS.iter().zip(report.tcbs) {
        for floor in bundle.floors.iter().filter(|floor| floor.on.contains(kind)) {
            if let Some(from) = floor.deny_from.filter(|from| told.time < *from)
                && !at_least(levels, floor.levels)
            {
                all.push((format!("snp.tcb.floor.{kind}"), from));
            }
        }
    }
    all
}
