// A certificate authority made for one test run by openssl, and server certificates signed by it.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export class Authority {
  constructor() {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'nebula-ca-'));
    this.ca_file = path.join(this.dir, 'ca.pem');
    this.serial = 0;
    this.#openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      this.#file('ca.key'),
      '-out',
      this.ca_file,
      '-days',
      '2',
      '-subj',
      '/CN=Nebula test authority',
    );
  }

  #file(name) {
    return path.join(this.dir, name);
  }
  #openssl(...args) {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  }

  /** Files and contents of a certificate for these names (`localhost`, `IP:127.0.0.1`). */
  issue({ names = ['DNS:localhost', 'IP:127.0.0.1'] } = {}) {
    this.serial += 1;
    const base = this.#file(`server${this.serial}`);
    this.#openssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      `${base}.key`,
      '-out',
      `${base}.csr`,
      '-subj',
      '/CN=nebula-test',
    );
    fs.writeFileSync(`${base}.ext`, `subjectAltName=${names.join(',')}\n`);
    this.#openssl(
      'x509',
      '-req',
      '-in',
      `${base}.csr`,
      '-CA',
      this.ca_file,
      '-CAkey',
      this.#file('ca.key'),
      '-set_serial',
      `${this.serial}`,
      '-days',
      '2',
      '-extfile',
      `${base}.ext`,
      '-out',
      `${base}.pem`,
    );
    return {
      cert_file: `${base}.pem`,
      key_file: `${base}.key`,
      cert: fs.readFileSync(`${base}.pem`),
      key: fs.readFileSync(`${base}.key`),
    };
  }

  remove() {
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}
