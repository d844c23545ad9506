// The OpenID Connect issuer of the stories: whoever knows a client's secret gets a signed token for an
// audience (RFC 6749 section 4.4 with RFC 8707). Its one argument is a file of settings:
//
//   issuer   its URL, as tokens name it
//   port     where it listens on the loopback interface
//   alg      how tokens are signed: ES256, RS256, …
//   keys     the file of its private keys; it is written if it is not there
//   key_id   what a key that is made is called
//   clients  for each client its secret and the claims of its tokens
//   tls      the files of a server's certificate and key; absent means HTTP
//
// It says "listening" when it does.

import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

import Provider from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2]));
const { alg, clients, issuer, port, tls } = settings;
const LIFETIME = 300;

if (!existsSync(settings.keys)) {
  const { privateKey } = alg.startsWith('ES')
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = { ...privateKey.export({ format: 'jwk' }), kid: settings.key_id, alg, use: 'sig' };
  writeFileSync(settings.keys, JSON.stringify({ keys: [key] }), { mode: 0o600 });
}

const provider = new Provider(issuer, {
  clients: Object.entries(clients).map(([id, { secret }]) => ({
    client_id: id,
    client_secret: secret,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_post',
    id_token_signed_response_alg: alg,
  })),
  extraTokenClaims: (_, token) => clients[token.clientId].claims,
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        accessTokenFormat: 'jwt',
        accessTokenTTL: LIFETIME,
        jwt: { sign: { alg } },
        scope: '',
      }),
    },
  },
  jwks: JSON.parse(readFileSync(settings.keys)),
});

const server = tls
  ? createTlsServer({ cert: readFileSync(tls.certificate), key: readFileSync(tls.key) }, provider.callback())
  : createServer(provider.callback());
server.listen(port, '127.0.0.1', () => console.log('listening'));
