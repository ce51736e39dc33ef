"""What each user of definitions.json may and may not do, tried by hand and by the relay itself."""

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pika

MODE = sys.argv[1]
AMQP = int(os.environ["AMQP_PORT"])
RELAY = os.environ["RELAY"]
FAULTS = []


def user(name):
    credentials = pika.PlainCredentials(name, "of-" + name)
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", AMQP, "dnma", credentials))


def attempt(connection, deed):
    """Whether the broker lets it happen; a refusal closes the channel."""
    channel = connection.channel()
    try:
        deed(channel)
        return True
    except pika.exceptions.UnroutableError:
        # Let in, and then found no queue.
        return True
    except pika.exceptions.ChannelClosedByBroker as refusal:
        if refusal.reply_code != 403:
            raise
        return False


def expect(connection, name, allowed, what, deed):
    if attempt(connection, deed) != allowed:
        FAULTS.append(f"{name} {'may not' if allowed else 'may'} {what}")


def publish(exchange, key="a-visitor"):
    def deed(channel):
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, b"{}", pika.BasicProperties(delivery_mode=2), mandatory=True)

    return deed


def environment(name, **more):
    url = f"amqp://{name}:of-{name}@127.0.0.1:{AMQP}/dnma"
    return {"AMQP_URL": url, "MATOMO_URL": "http://127.0.0.1:9/", "HTTP_LISTEN": "127.0.0.1:0", "LOG_FORMAT": "json", **more}


def relay_starts(name, **more):
    """Whether a relay gets a session: its log says so, or why not."""
    child = subprocess.Popen([RELAY, "run"], env=environment(name, **more), stderr=subprocess.PIPE, text=True)
    try:
        for line in child.stderr:
            if "connected to RabbitMQ" in line:
                return True
            if "no session with RabbitMQ" in line:
                print("   ", json.loads(line)["message"])
                return False
        return False
    finally:
        child.terminate()
        child.wait(30)


print(f"The relay's user, TOPOLOGY={MODE}")
if not relay_starts("relay", TOPOLOGY=MODE):
    FAULTS.append("the relay does not start")
relay = user("relay")
expect(relay, "relay", MODE == "declare", "declare a queue of its prefix", lambda c: c.queue_declare("dnma.hits.99", durable=True))
expect(relay, "relay", False, "declare another queue", lambda c: c.queue_declare("other", durable=True))
expect(relay, "relay", False, "publish past its exchanges", publish("", "dnma.hits.parked"))
expect(relay, "relay", True, "publish to parked", publish("dnma.hits.parked"))
expect(relay, "relay", True, "read a shard", lambda c: c.basic_cancel(c.basic_consume("dnma.hits.0", lambda *_: None)))
expect(relay, "relay", MODE == "declare", "delete a queue", lambda c: c.queue_delete("dnma.hits.99"))
relay.close()

print("An ENT's user")
publisher = user("publisher")
expect(publisher, "publisher", True, "publish a hit", publish("dnma.hits"))
for exchange, key in [("", "dnma.hits.0"), ("dnma.hits.parked", "x"), ("dnma.hits.retry.600s", "x"), ("amq.topic", "x"), ("amq.fanout", "x")]:
    expect(publisher, "publisher", False, f"publish to '{exchange}'", publish(exchange, key))
for queue in ["dnma.hits.0", "dnma.hits.parked", "dnma.hits.rejected"]:
    expect(publisher, "publisher", False, f"read {queue}", lambda c, queue=queue: c.basic_consume(queue, lambda *_: None))
    expect(publisher, "publisher", False, f"purge {queue}", lambda c, queue=queue: c.queue_purge(queue))
    expect(publisher, "publisher", False, f"delete {queue}", lambda c, queue=queue: c.queue_delete(queue))
expect(publisher, "publisher", False, "declare a queue", lambda c: c.queue_declare("mine", durable=True))
expect(publisher, "publisher", False, "declare a nameless queue", lambda c: c.queue_declare("", exclusive=True))
expect(publisher, "publisher", False, "listen to hits", lambda c: c.queue_bind("dnma.hits.parked", "dnma.hits", "100"))
expect(publisher, "publisher", False, "delete the exchange", lambda c: c.exchange_delete("dnma.hits"))
publisher.close()
if relay_starts("publisher"):
    FAULTS.append("an ENT can run a relay")
hit = json.dumps({"idsite": "1", "uid": "7c9e6679f4b44e1f8e0c5b6f0a3d2c1b"})
sent = subprocess.run([RELAY, "publish", "-"], env=environment("publisher"), input=hit, text=True, capture_output=True)
if sent.returncode != 0:
    FAULTS.append(f"dnma-relay publish as an ENT: {sent.stderr}")

print("An operator's user")
operator = user("operator")
for queue in ["dnma.hits.parked", "dnma.hits.rejected"]:
    expect(operator, "operator", True, f"read {queue}", lambda c, queue=queue: c.basic_cancel(c.basic_consume(queue, lambda *_: None)))
expect(operator, "operator", False, "read a shard", lambda c: c.basic_consume("dnma.hits.0", lambda *_: None))
expect(operator, "operator", False, "declare another queue", lambda c: c.queue_declare("dnma.hits.9", durable=True))
expect(operator, "operator", False, "write to parked", publish("dnma.hits.parked"))
expect(operator, "operator", False, "write past the exchange", publish("", "dnma.hits.0"))
for queue in ["dnma.hits.0", "dnma.hits.retry.600s"]:
    expect(operator, "operator", True, f"count {queue}", lambda c, queue=queue: c.queue_declare(queue, passive=True))
    expect(operator, "operator", False, f"take from {queue}", lambda c, queue=queue: c.basic_get(queue))
    expect(operator, "operator", False, f"purge {queue}", lambda c, queue=queue: c.queue_purge(queue))
    expect(operator, "operator", False, f"delete {queue}", lambda c, queue=queue: c.queue_delete(queue))
expect(operator, "operator", False, "take a shard from the exchange", lambda c: c.queue_unbind("dnma.hits.0", "dnma.hits", "100"))
expect(operator, "operator", False, "listen to hits", lambda c: c.queue_bind("dnma.hits.0", "dnma.hits", "100"))
operator.close()
for command in [["list"], ["replay", "--unchecked", "--receipt", "-"]]:
    done = subprocess.run([RELAY, "dead", *command], env=environment("operator"), text=True, capture_output=True)
    if done.returncode != 0:
        FAULTS.append(f"dnma-relay dead {command[0]} as an operator: {done.stdout} {done.stderr}")
checked = subprocess.run(
    [RELAY, "check", "--connect", "--json"], env=environment("relay", TOPOLOGY=MODE), text=True, capture_output=True
)
said = [(found["outcome"], found["text"]) for found in json.loads(checked.stdout)["findings"] if found["subject"] == "topology"]
if [outcome for outcome, _ in said] != ["fine"]:
    FAULTS.append(f"check --connect as the relay: {said}")

print("KEDA's user")


def ask(name, path):
    request = urllib.request.Request(f"http://127.0.0.1:{os.environ['HTTP_PORT']}{path}")
    token = urllib.request.base64.b64encode(f"{name}:of-{name}".encode()).decode()
    request.add_header("Authorization", "Basic " + token)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


# As KEDA asks for queues by a regular expression.
query = urllib.parse.urlencode({"page": 1, "use_regex": "true", "pagination": "false", "name": r"^dnma\.hits\.[0-9]+$", "page_size": 500})
items = ask("scaler", f"/api/queues/dnma?{query}")["items"]
shards = sorted(item["name"] for item in items)
if shards != [f"dnma.hits.{index}" for index in range(8)]:
    FAULTS.append(f"KEDA's question finds {shards}")
scaler = user("scaler")
expect(scaler, "scaler", False, "publish a hit", publish("dnma.hits"))
expect(scaler, "scaler", False, "read a shard", lambda c: c.basic_consume("dnma.hits.0", lambda *_: None))
scaler.close()

print("RabbitMQ's own metrics, which alarms and dashboard use")
DETAILED = "/metrics/detailed?vhost=dnma&family=queue_coarse_metrics&family=queue_consumer_count"
PER_QUEUE = [(DETAILED, "rabbitmq_detailed_"), ("/metrics/per-object", "rabbitmq_")]


def missing():
    for path, prefix in PER_QUEUE:
        with urllib.request.urlopen(f"http://127.0.0.1:{os.environ['METRICS_PORT']}{path}", timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if 'queue="dnma.hits.0"' in line]
        for name in ["queue_consumers", "queue_messages"]:
            if not any(line.startswith(f"{prefix}{name}{{") for line in lines):
                yield f"{path} has no {prefix}{name} of a shard"


# Queues tell their numbers every few seconds.
DEADLINE = time.monotonic() + 60
while list(missing()) and time.monotonic() < DEADLINE:
    time.sleep(0.5)
FAULTS.extend(missing())

for fault in FAULTS:
    print("FAILED:", fault)
sys.exit(bool(FAULTS))
