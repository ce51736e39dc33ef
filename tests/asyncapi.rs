//! What `docs/asyncapi.yaml` tells an ENT's developer is what the program does: each exchange,
//! queue, argument and header stands in it, and no other.
#![cfg(test)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use dnma_relay::domain::envelope::{DeadLetterHeaders, Header};
use dnma_relay::domain::hit::decode;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::validate::{Context, validate};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What the program prints with every setting at its default.
fn printed(arguments: &[&str]) -> anyhow::Result<Value> {
    let program = env!("CARGO_BIN_EXE_dnma-relay");
    let output = Command::new(program).args(arguments).env_clear().output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn read(name: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn contract() -> anyhow::Result<Value> {
    Ok(serde_yaml_ng::from_str(&read("asyncapi.yaml")?)?)
}

fn object<'v>(value: &'v Value, pointer: &str) -> anyhow::Result<&'v Map<String, Value>> {
    value.pointer(pointer).and_then(Value::as_object).with_context(|| pointer.to_owned())
}

#[test]
fn every_exchange_queue_and_argument_stands_in_it() -> anyhow::Result<()> {
    let (contract, topology) = (contract()?, printed(&["topology"])?);
    let (mut queues, mut exchanges) = (BTreeMap::new(), BTreeMap::new());
    for channel in object(&contract, "/channels")?.values() {
        let amqp = &channel["bindings"]["amqp"];
        let is_queue = amqp["is"] == "queue";
        let place = &amqp[if is_queue { "queue" } else { "exchange" }];
        ensure!(place["durable"] == true && place["autoDelete"] == false, "{channel}");
        let name = place["name"].as_str().context("a name")?.to_owned();
        if is_queue {
            ensure!(channel["address"] == name, "{channel}");
            queues.insert(name.clone(), channel["x-arguments"].clone());
        }
        if let Some(kind) = channel.get("x-exchange-type") {
            exchanges.insert(name, kind.clone());
        }
    }
    for (key, field, told) in [("queues", "arguments", queues), ("exchanges", "type", exchanges)] {
        let declared = topology[key].as_array().context(key)?.iter();
        let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
        let declared: BTreeMap<_, _> =
            declared.map(|one| (name(one), one[field].clone())).collect();
        assert_eq!(told, declared);
    }
    Ok(())
}

#[test]
fn every_header_of_ours_stands_in_it() -> anyhow::Result<()> {
    let contract = contract()?;
    let least = DeadLetterHeaders {
        reason: "timeout",
        attempts: 1,
        status: None,
        first_failed_at: None,
        failed_at: Timestamp::UNIX_EPOCH,
        violations: None,
        plan: "2.01",
        worker: "w",
        tenant: None,
        replay: None,
    };
    let most = DeadLetterHeaders {
        status: Some(503),
        violations: Some("[]".to_owned()),
        tenant: Some("ent"),
        replay: Some("parked/1"),
        ..least
    };
    let kind = |header: &Header| match header {
        Header::Text(_) => json!("string"),
        Header::Number(_) => json!("integer"),
    };
    let written: BTreeMap<String, Value> =
        most.list().iter().map(|(name, value)| ((*name).to_owned(), kind(value))).collect();
    let headers = &contract["components"]["schemas"]["deadLetterHeaders"];
    let told = object(headers, "/properties")?.iter();
    let told: BTreeMap<_, _> =
        told.map(|(name, schema)| (name.clone(), schema["type"].clone())).collect();
    assert_eq!(told, written);
    let least = DeadLetterHeaders { status: None, violations: None, tenant: None, ..most };
    let least = DeadLetterHeaders { replay: None, ..least };
    let mut always: Vec<&str> = least.list().into_iter().map(|(name, _)| name).collect();
    let mut required: Vec<String> = serde_json::from_value(headers["required"].clone())?;
    always.sort_unstable();
    required.sort_unstable();
    assert_eq!(required, always);
    Ok(())
}

#[test]
fn its_schema_is_that_of_the_plan() -> anyhow::Result<()> {
    let written: Value = serde_json::from_str(&read("hit.schema.json")?)?;
    ensure!(
        written == printed(&["plan", "schema"])?,
        "write it anew: dnma-relay plan schema > docs/hit.schema.json"
    );
    Ok(())
}

#[test]
fn its_examples_are_right() -> anyhow::Result<()> {
    let (contract, plan) = (contract()?, Plan::built_in()?);
    let now = "2026-11-24T12:00:00Z".parse()?;
    for message in ["hitAsJson", "hitAsQuery"] {
        let message = &contract["components"]["messages"][message];
        let content_type = message["contentType"].as_str();
        for example in message["examples"].as_array().context("examples")? {
            let payload = &example["payload"];
            let body = payload.as_str().map_or_else(|| payload.to_string(), str::to_owned);
            let hit = decode(body.as_bytes(), content_type)
                .map_err(|error| anyhow::anyhow!("{body}: {error:?}"))?;
            let found = validate(&plan, &hit, Context::at(now)).violations;
            let found: Vec<_> = found.iter().map(|violation| violation.rule.code()).collect();
            ensure!(found.is_empty(), "{body}: {found:?}");
        }
    }
    Ok(())
}
