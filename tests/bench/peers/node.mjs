// What a careful person writes with amqplib and undici: no check, no order, no retry queue; a hit is acked once stored.
import amqp from 'amqplib';
import { randomBytes } from 'node:crypto';
import { Pool } from 'undici';

const BULK = Number(process.env.BULK);
const SENDERS = 8;
const { origin, pathname } = new URL(process.env.MATOMO_URL);
const http = new Pool(origin, { connections: SENDERS, bodyTimeout: 65_000, headersTimeout: 65_000 });

function hit(message) {
  const { url_ref: urlref, ...fields } = JSON.parse(message.content);
  return { ...fields, urlref, rec: '1', apiv: '1', rand: randomBytes(4).toString('hex') };
}

async function deliver(messages) {
  const request =
    BULK === 1
      ? { method: 'GET', path: `${pathname}?${new URLSearchParams(hit(messages[0]))}` }
      : {
          method: 'POST',
          path: pathname,
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ requests: messages.map(hit) }),
        };
  const { statusCode, body } = await http.request(request);
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`status ${statusCode}`);
  if (BULK > 1 && JSON.parse(text).tracked !== messages.length) throw new Error('not all tracked');
}

const waiting = [];
let sending = 0;

// As many requests at a time as there are senders; each takes what waits, up to a bulk.
function pump() {
  while (sending < SENDERS && waiting.length > 0) {
    const batch = waiting.splice(0, BULK);
    sending += 1;
    deliver(batch.map(({ message }) => message))
      .then(
        () => batch.forEach(({ channel, message }) => channel.ack(message)),
        () => batch.forEach(({ channel, message }) => channel.nack(message)),
      )
      .finally(() => {
        sending -= 1;
        pump();
      });
  }
}

const connection = await amqp.connect(process.env.AMQP_URL);
for (const queue of process.env.QUEUES.split(',')) {
  const channel = await connection.createChannel();
  await channel.prefetch(100);
  await channel.consume(queue, (message) => {
    waiting.push({ channel, message });
    // After all messages of this read, so that a bulk is full.
    if (waiting.length === 1) setImmediate(pump);
  });
}
