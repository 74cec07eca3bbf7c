//! Generates cases from a seed: mostly valid, with a few things wrong.

use fastrand::Rng;

use crate::case::{Bundle, Floor, Image, KINDS, Levels, NOW, Node, Parent, Quote, Report, Rule, Told, Workload};

/// Levels that floors and reports are made of.
const LEVELS: [Levels; 3] = [[4, 0, 24, 219], [4, 0, 23, 219], [3, 0, 24, 210]];

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())].clone()
}

/// True once in this many times.
fn rarely(rng: &mut Rng, times: u32) -> bool {
    rng.u32(..times) == 0
}

fn some<T: Clone>(rng: &mut Rng, of: &[T], chance: f64) -> Vec<T> {
    of.iter().filter(|_| rng.f64() < chance).cloned().collect()
}

/// A bundle.
#[must_use]
pub fn bundle(rng: &mut Rng) -> Bundle {
    let mut classes = some(rng, &["snp+tpm", "snp", "tpm"], 0.8);
    let (by_chip, by_ak) = (!rarely(rng, 6), rng.bool());
    let by_ek = !by_ak;
    // A minimum that the enrolment can show, and that some class satisfies.
    let minimum = if by_chip { pick(rng, &["snp+tpm", "snp", "tpm"]) } else { pick(rng, &["snp+tpm", "tpm"]) };
    let minimum = if !by_chip && by_ak { "tpm" } else { minimum };
    if !classes.contains(&minimum) && !classes.contains(&"snp+tpm") {
        classes.push(minimum);
    }
    let mut floors = vec![Floor { on: KINDS.to_vec(), deny_from: None, levels: pick(rng, &LEVELS) }];
    for _ in 0..rng.usize(..3) {
        let deny_from = pick(rng, &[None, Some(NOW), Some(NOW + 50)]);
        floors.push(Floor { on: some(rng, &KINDS, 0.5), deny_from, levels: pick(rng, &LEVELS) });
    }
    floors.retain(|floor| !floor.on.is_empty());
    let mut rules = some(rng, &Rule::ALL[..7], 0.3);
    rules.extend(rarely(rng, 12).then_some(Rule::Err));
    if rules.is_empty() {
        rules.push(Rule::PermitLab);
    }
    Bundle {
        for_us: !rarely(rng, 20),
        valid: (NOW - 100, NOW + 100),
        skew: pick(rng, &[None, Some(1), Some(2)]),
        classes,
        evidence_seconds: pick(rng, &[1, 5, 10]),
        renewal_seconds: pick(rng, &[60, 3600]),
        distrusts_generation: rarely(rng, 24),
        distrusts_chip: rarely(rng, 24),
        requires: [rng.bool(), rarely(rng, 4), rng.bool(), rarely(rng, 4)],
        floors,
        images: (0..rng.usize(1..4)).map(|_| image(rng)).collect(),
        node: (!rarely(rng, 12)).then(|| Node {
            by_chip,
            by_ak,
            by_ek,
            minimum,
            tags: some(rng, &["lab", "blue"], 0.6),
        }),
        workload: (!rarely(rng, 12)).then(|| Workload {
            arguments: pick(rng, &[None, None, Some(1)]),
            environment: pick(rng, &[None, None, Some(2)]),
            dynamic: rng.bool(),
        }),
        rules,
    }
}

fn image(rng: &mut Rng) -> Image {
    let mut measurements = some(rng, &[0, 1], 0.7);
    measurements.push(2);
    let mut boots = some(rng, &[0, 1], 0.7);
    boots.push(rng.u8(..2));
    Image {
        measurements,
        valid: pick(
            rng,
            &[(NOW - 100, NOW + 100), (NOW - 100, NOW + 100), (NOW - 100, NOW), (NOW, NOW + 100), (NOW + 2, NOW + 100)],
        ),
        vmpl: u32::from(rarely(rng, 5)),
        guest_svn: 1 + u32::from(rarely(rng, 4)),
        host_data: pick(rng, &[None, None, Some(0), Some(7)]),
        boots,
    }
}

/// A request. Half of them satisfy the bundle as far as possible, with at most one
/// random part.
#[must_use]
pub fn told(rng: &mut Rng, bundle: &Bundle) -> Told {
    let any = any(rng);
    if rng.bool() {
        return any;
    }
    let sound = sound(rng, bundle);
    match rng.u8(..12) {
        0 => Told { report: sound.report.map(|own| any.report.unwrap_or(own)), ..sound },
        1 => Told { quote: sound.quote.map(|own| any.quote.unwrap_or(own)), ..sound },
        2 => Told { parent: any.parent, ..sound },
        3 => Told { revoked: any.revoked, lifted: any.lifted, known_workload: any.known_workload, ..sound },
        4 => Told { arguments: any.arguments, environment: any.environment, dynamic: any.dynamic, ..sound },
        5 => Told { time: any.time, nonce_age: any.nonce_age, ..sound },
        6 => Told { audience: any.audience, statement: any.statement, nonce: any.nonce, ..sound },
        7 => Told { this_session: any.this_session, activated: any.activated, own_name: any.own_name, ..sound },
        _ => sound,
    }
}

/// What a bundle would permit, if it permits anything.
fn sound(rng: &mut Rng, bundle: &Bundle) -> Told {
    let minimum = bundle.node.as_ref().map_or("snp+tpm", |node| node.minimum);
    let fitting = ["snp+tpm", "snp", "tpm"].into_iter().find(|class| {
        bundle.classes.contains(class) && (*class == minimum || *class == "snp+tpm" || minimum == "none")
    });
    let class = fitting.unwrap_or(minimum);
    let image = pick(rng, &bundle.images);
    let measurement = pick(rng, &image.measurements);
    // The first image that has the measurement or the boot is looked at too.
    let boot = pick(rng, &image.boots);
    Told {
        time: NOW,
        nonce_age: 1,
        audience: true,
        statement: true,
        nonce: true,
        contradicted: false,
        own_name: true,
        this_session: true,
        report: (class != "tpm").then(|| Report {
            own_chip: true,
            measurement,
            vmpl: image.vmpl,
            guest_svn: 2,
            host_data: image.host_data.unwrap_or(0),
            has: [true; 4],
            allows: [false; 2],
            tcbs: [pick(rng, &[LEVELS[0], LEVELS[0], LEVELS[1]]); 4],
        }),
        quote: (class != "snp").then_some(Quote { own_ak: true, boot }),
        activated: true,
        parent: rng.bool().then_some(Some(Parent { same: true, since: NOW - 10, same_boot: true, revoked: false })),
        revoked: [false; 2],
        lifted: [false; 2],
        known_workload: true,
        arguments: 1,
        environment: 2,
        dynamic: false,
    }
}

fn any(rng: &mut Rng) -> Told {
    let class = pick(rng, &["snp+tpm", "snp+tpm", "snp+tpm", "snp", "tpm"]);
    let nonce_age = if rarely(rng, 8) { rng.i64(-1..13) } else { 1 };
    Told {
        time: pick(
            rng,
            &[NOW, NOW, NOW, NOW - 1, NOW + 49, NOW + 50, NOW + 99, NOW - 101, NOW - 110, NOW - 111, NOW + 100],
        ),
        nonce_age,
        audience: !rarely(rng, 20),
        statement: !rarely(rng, 20),
        nonce: !rarely(rng, 20),
        contradicted: rarely(rng, 20),
        own_name: !rarely(rng, 12),
        this_session: !rarely(rng, 12),
        report: (class != "tpm").then(|| report(rng)),
        quote: (class != "snp").then(|| Quote { own_ak: !rarely(rng, 10), boot: pick(rng, &[0, 0, 1, 2]) }),
        activated: !rarely(rng, 4),
        parent: rng.bool().then(|| {
            (!rarely(rng, 6)).then(|| Parent {
                same: !rarely(rng, 8),
                since: NOW - pick(rng, &[10, 100, 600, 4000]),
                same_boot: !rarely(rng, 8),
                revoked: rarely(rng, 8),
            })
        }),
        revoked: [rarely(rng, 12), rarely(rng, 12)],
        lifted: [rarely(rng, 3), rarely(rng, 3)],
        known_workload: !rarely(rng, 12),
        arguments: pick(rng, &[1, 1, 1, 9]),
        environment: pick(rng, &[2, 2, 2, 9]),
        dynamic: rarely(rng, 3),
    }
}

fn report(rng: &mut Rng) -> Report {
    let base = pick(rng, &[LEVELS[0], LEVELS[0], LEVELS[1]]);
    let mut tcbs = [base; 4];
    if rarely(rng, 3) {
        // One of them lower; where that breaks the order, the report is forged.
        tcbs[rng.usize(..4)] = pick(rng, &LEVELS);
    }
    Report {
        own_chip: !rarely(rng, 10),
        measurement: pick(rng, &[0, 1, 2, 3]),
        vmpl: u32::from(rarely(rng, 6)),
        guest_svn: pick(rng, &[2, 2, 1, 0]),
        host_data: pick(rng, &[0, 0, 7]),
        has: [!rarely(rng, 6), rng.bool(), !rarely(rng, 6), rng.bool()],
        allows: [rarely(rng, 16), rarely(rng, 16)],
        tcbs,
    }
}
