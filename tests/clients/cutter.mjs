// A line that breaks: forwards to the API, and cuts each connection once it has carried so many bytes of answer.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Cutter {
  // `limits` says after how many bytes the first connections are cut, in the middle of a line if it comes so.
  static async before(url, limits) {
    const cutter = new Cutter();
    Object.assign(cutter, { cuts: 0, limits: [...limits], port: new URL(url).port });
    cutter.server = createServer((client) => cutter.carry(client));
    cutter.server.listen(0, '127.0.0.1');
    await once(cutter.server, 'listening');
    return cutter;
  }

  get url() {
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  carry(client) {
    let left = this.limits.shift() ?? Infinity;
    const server = connect(this.port, '127.0.0.1');
    client.pipe(server);
    server.on('data', (data) => {
      client.write(data.subarray(0, left));
      left -= data.length;
      if (left <= 0) {
        this.cuts += 1;
        server.destroy();
        client.end(() => client.destroy());
      }
    });
    server.on('end', () => client.end());
    for (const end of [client, server]) end.on('error', () => { client.destroy(); server.destroy(); });
    client.on('close', () => server.destroy());
  }

  close() {
    this.server.close();
  }
}
