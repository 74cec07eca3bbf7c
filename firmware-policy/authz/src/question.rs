//! The question that Portcullis asks, as Cedar entities.

use std::collections::{HashMap, HashSet};
use std::fmt;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Expression,
};

use crate::SCHEMA_FILE;
use crate::engine::{Answer, Blame, Engine, PolicyFile};
use crate::memory::Memory;
use crate::mistake::Mistake;

/// The permit that a request renews.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// Its id in hex.
    pub id: &'a str,
    /// Id of the first permit of its line in hex; the parent's own id if it is the first.
    pub origin: &'a str,
    /// When the first permit was granted, Unix seconds.
    pub since: u64,
}

/// May this node run this workload?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Recorded time, Unix seconds.
    pub time: u64,
    /// Name of the enrolled node.
    pub node: &'a str,
    /// Class of its evidence.
    pub class: &'a str,
    /// Chip generation and chip id in hex; absent without an SNP report.
    pub chip: Option<(&'a str, &'a str)>,
    /// Name of the reference values that matched.
    pub image: &'a str,
    /// Tags of its enrolment.
    pub tags: &'a [String],
    /// SHA-256 of the workload, in hex.
    pub workload: &'a str,
    /// Name of the workload in the bundle.
    pub workload_name: &'a str,
    /// Whether it loads shared libraries.
    pub dynamic: bool,
    /// Thumbprint of the gate's key, in hex.
    pub requester: &'a str,
    /// The permit that is renewed.
    pub parent: Option<Parent<'a>>,
}

impl Question<'_> {
    /// A question with every optional part, to validate a schema with.
    pub const EXAMPLE: Self = Self {
        time: 1_795_000_000,
        node: "node",
        class: "snp+tpm",
        chip: Some(("Milan", "00")),
        image: "image",
        tags: &[],
        workload: "00",
        workload_name: "workload",
        dynamic: false,
        requester: "00",
        parent: Some(Parent { id: "00", origin: "01", since: 1_794_000_000 }),
    };
}

/// Policies with a schema that fits the question.
pub struct Authorizer {
    engine: Engine,
    types: Types,
    /// Actions in the schema, with their groups.
    actions: Vec<Entity>,
    memory: Memory,
}

struct Types {
    node: EntityTypeName,
    chip: EntityTypeName,
    generation: EntityTypeName,
    workload: EntityTypeName,
    requester: EntityTypeName,
    permit: EntityTypeName,
    action: EntityUid,
}

/// Whether the question is validated against the schema.
#[derive(Clone, Copy, PartialEq)]
enum Fit {
    /// Yes: when the schema is loaded.
    Judged,
    /// No: later questions differ in names and numbers, never in types.
    Known,
}

impl Types {
    fn new() -> Option<Self> {
        let name = |text: &str| text.parse::<EntityTypeName>().ok();
        Some(Self {
            node: name("Node")?,
            chip: name("Chip")?,
            generation: name("Generation")?,
            workload: name("Workload")?,
            requester: name("Requester")?,
            permit: name("Permit")?,
            action: EntityUid::from_type_name_and_id(name("Action")?, EntityId::new("execute")),
        })
    }
}

impl Authorizer {
    /// Loads policies and schema, and checks that the schema fits the question.
    ///
    /// # Errors
    /// Every [`Mistake`] that was found.
    pub fn load(files: &[PolicyFile<'_>], schema: &str) -> Result<Self, Vec<Mistake>> {
        let misfit = |what: String| {
            let hint = "keep the types of the schema that `portcullis-policy new` writes; add to them only";
            vec![Mistake::ours(SCHEMA_FILE, None, what, hint)]
        };
        let types = Types::new().ok_or_else(|| misfit("the names of its types".into()))?;
        let engine = Engine::load(files, schema)?;
        let actions = engine.schema().action_entities().map_err(|error| misfit(error.to_string()))?;
        let memory = Memory::of(&engine);
        let authorizer = Self { engine, types, actions: actions.into_iter().collect(), memory };
        let bare = Question { chip: None, parent: None, ..Question::EXAMPLE };
        for example in [Question::EXAMPLE, bare] {
            let fits = authorizer.request(&example, Fit::Judged);
            fits.map_err(|why| misfit(format!("the question that is asked of every request does not fit: {why}")))?;
        }
        Ok(authorizer)
    }

    /// The validated policies.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Answers a question. Pure: the same question has the same answer.
    #[must_use]
    pub fn ask(&self, question: &Question<'_>) -> Answer {
        self.memory.recall(question, || match self.request(question, Fit::Known) {
            Err(why) => Answer::Erred(vec![Blame { policy: SCHEMA_FILE.into(), reason: Some(why) }]),
            Ok((request, entities)) => self.engine.decide(&request, &entities),
        })
    }

    fn request(&self, q: &Question<'_>, fit: Fit) -> Result<(Request, Entities), String> {
        let types = &self.types;
        let uid = |of: &EntityTypeName, id: &str| EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id));
        let mut entities = Vec::with_capacity(6);
        let chip = q.chip.map(|(generation, id)| (uid(&types.generation, generation), uid(&types.chip, id)));
        if let Some((generation, chip)) = &chip {
            entities.push(plain(chip.clone(), Some(generation.clone())));
            entities.push(plain(generation.clone(), None));
        }
        let (node, workload) = (uid(&types.node, q.node), uid(&types.workload, q.workload));
        let about_node = [
            ("class", text(q.class)),
            ("generation", text(q.chip.map_or("none", |(generation, _)| generation))),
            ("image", text(q.image)),
            ("tags", Expression::new_set(q.tags.iter().map(|tag| text(tag)))),
        ];
        entities.push(entity(&node, about_node, chip.map(|(_, chip)| chip))?);
        let about_workload = [("name", text(q.workload_name)), ("dynamic", Expression::new_bool(q.dynamic))];
        entities.push(entity(&workload, about_workload, None)?);

        let requester = uid(&types.requester, q.requester);
        let mut context = vec![
            ("time".to_owned(), long(q.time)?),
            ("requester".to_owned(), Expression::new_entity_uid(requester.clone())),
            ("renewal".to_owned(), Expression::new_bool(q.parent.is_some())),
            ("since".to_owned(), long(q.parent.map_or(q.time, |parent| parent.since))?),
        ];
        entities.push(plain(requester, None));
        if let Some(parent) = q.parent {
            let (permit, origin) = (uid(&types.permit, parent.id), uid(&types.permit, parent.origin));
            context.push(("parent".to_owned(), Expression::new_entity_uid(permit.clone())));
            if permit != origin {
                entities.push(plain(origin.clone(), None));
            }
            entities.push(plain(permit.clone(), Some(origin).filter(|origin| *origin != permit)));
        }
        let schema = (fit == Fit::Judged).then(|| self.engine.schema());
        if fit == Fit::Known {
            entities.extend(self.actions.iter().cloned());
        }
        let entities = Entities::from_entities(entities, schema).map_err(|error| error.to_string())?;
        let context = Context::from_pairs(context).map_err(|error| error.to_string())?;
        let request = Request::new(node, types.action.clone(), workload, context, schema);
        Ok((request.map_err(|error| error.to_string())?, entities))
    }
}

fn text(value: &str) -> Expression {
    Expression::new_string(value.to_owned())
}

fn long(value: u64) -> Result<Expression, String> {
    i64::try_from(value).map(Expression::new_long).map_err(|_| "a time beyond what Cedar can count".to_owned())
}

fn plain(uid: EntityUid, parent: Option<EntityUid>) -> Entity {
    Entity::new_no_attrs(uid, parent.into_iter().collect())
}

fn entity<const N: usize>(
    uid: &EntityUid,
    attributes: [(&str, Expression); N],
    parent: Option<EntityUid>,
) -> Result<Entity, String> {
    let attributes: HashMap<String, _> = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let parents: HashSet<EntityUid> = parent.into_iter().collect();
    Entity::new(uid.clone(), attributes, parents).map_err(|error| error.to_string())
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}
