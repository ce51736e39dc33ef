"""What a careful person writes with aio-pika and aiohttp: no check, no order, no retry queue; a hit is acked once stored."""

import asyncio
import json
import os
import random
import string

import aio_pika
import aiohttp

BULK = int(os.environ["BULK"])
SENDERS = 8
URL = os.environ["MATOMO_URL"]
LETTERS = string.ascii_lowercase + string.digits


def hit(message):
    fields = json.loads(message.body)
    if "url_ref" in fields:
        fields["urlref"] = fields.pop("url_ref")
    return {**fields, "rec": "1", "apiv": "1", "rand": "".join(random.choices(LETTERS, k=8))}


async def deliver(http, messages):
    if BULK == 1:
        request = http.get(URL, params=hit(messages[0]))
    else:
        request = http.post(URL, json={"requests": [hit(message) for message in messages]})
    async with request as response:
        response.raise_for_status()
        if BULK > 1 and (await response.json())["tracked"] != len(messages):
            raise ValueError("not all tracked")


async def work(http, waiting):
    while True:
        messages = [await waiting.get()]
        while len(messages) < BULK and not waiting.empty():
            messages.append(waiting.get_nowait())
        try:
            await deliver(http, messages)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            for message in messages:
                await message.nack()
        else:
            for message in messages:
                await message.ack()


async def main():
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    waiting = asyncio.Queue()
    async with connection, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=65)) as http:
        for name in os.environ["QUEUES"].split(","):
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=100)
            queue = await channel.get_queue(name)
            await queue.consume(waiting.put)
        await asyncio.gather(*(work(http, waiting) for _ in range(SENDERS)))


asyncio.run(main())
