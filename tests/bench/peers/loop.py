"""What is written in an afternoon with pika and requests: one loop, one request at a time."""

import json
import os
import random
import string

import pika
import requests

BULK = int(os.environ["BULK"])
URL = os.environ["MATOMO_URL"]
LETTERS = string.ascii_lowercase + string.digits

http = requests.Session()
waiting = []


def hit(body):
    fields = json.loads(body)
    if "url_ref" in fields:
        fields["urlref"] = fields.pop("url_ref")
    return {**fields, "rec": "1", "apiv": "1", "rand": "".join(random.choices(LETTERS, k=8))}


def deliver(bodies):
    if BULK == 1:
        http.get(URL, params=hit(bodies[0]), timeout=65).raise_for_status()
        return
    response = http.post(URL, json={"requests": [hit(body) for body in bodies]}, timeout=65)
    response.raise_for_status()
    if response.json()["tracked"] != len(bodies):
        raise ValueError("not all tracked")


def flush():
    if not waiting:
        return
    batch = waiting[:]
    waiting.clear()
    try:
        deliver([body for _, _, body in batch])
    except (requests.RequestException, ValueError):
        for channel, tag, _ in batch:
            channel.basic_nack(tag)
    else:
        for channel, tag, _ in batch:
            channel.basic_ack(tag)


def take(channel, method, _properties, body):
    waiting.append((channel, method.delivery_tag, body))
    if len(waiting) >= BULK:
        flush()


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.basic_qos(prefetch_count=100)
for name in os.environ["QUEUES"].split(","):
    channel.basic_consume(name, take)
while True:
    connection.process_data_events(time_limit=1)
    flush()
