// The peer: an app of atlassian-connect-express that does nothing but be installed.
//
// Everything that happens to an install is the framework's own: its route, its check of the
// signature, its store. In production it logs no request; that its store logs no statement either
// (config.json) is a favour, and so is the pool: the framework's own would be half as large.
"use strict";

const ace = require("atlassian-connect-express");
const express = require("express");

const { AC_LOCAL_BASE_URL, CONNECT_KEYS_CDN_URL, DB_URL, NODE_ENV, PORT } = process.env;

if (NODE_ENV !== "production") {
  throw new Error("only what runs in production is worth measuring");
}
for (const [name, value] of Object.entries({ AC_LOCAL_BASE_URL, CONNECT_KEYS_CDN_URL, DB_URL, PORT })) {
  if (!value) {
    throw new Error(`${name} is not set`);
  }
}

const app = express();
app.use(express.json());
const addon = ace(app);
app.use(addon.middleware());

app.listen(Number(PORT), "127.0.0.1");
