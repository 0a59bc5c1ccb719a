// A proxy to the API that cuts each connection after a number of response bytes.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Cutter {
  // `limits` has the numbers of bytes after which the first connections are cut, possibly in the middle of a line.
  static async start(url, limits) {
    const cutter = new Cutter();
    Object.assign(cutter, { cuts: 0, limits: [...limits], port: new URL(url).port });
    cutter.server = createServer((client) => cutter.forward(client));
    cutter.server.listen(0, '127.0.0.1');
    await once(cutter.server, 'listening');
    return cutter;
  }

  get url() {
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  forward(client) {
    let remaining = this.limits.shift() ?? Infinity;
    const server = connect(this.port, '127.0.0.1');
    client.pipe(server);
    server.on('data', (data) => {
      client.write(data.subarray(0, remaining));
      remaining -= data.length;
      if (remaining <= 0) {
        this.cuts += 1;
        server.destroy();
        client.end(() => client.destroy());
      }
    });
    server.on('end', () => client.end());
    for (const socket of [client, server]) socket.on('error', () => { client.destroy(); server.destroy(); });
    client.on('close', () => server.destroy());
  }

  close() {
    this.server.close();
  }
}
