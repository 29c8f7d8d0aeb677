// Express: bare, express-session with connect-redis. node app.js PORT; LOAD_STORE and LOAD_VARIANT as for the others.
import { readFileSync } from "node:fs";
import express from "express";

const content = JSON.parse(readFileSync(process.env.LOAD_CONTENT));
const bare = process.env.LOAD_VARIANT === "bare";
const app = express();

if (!bare) {
  const { default: session } = await import("express-session");
  const { RedisStore } = await import("connect-redis");
  const { createClient } = await import("redis");
  const client = createClient({ url: process.env.LOAD_STORE });
  await client.connect();
  app.use(
    session({
      store: new RedisStore({ client, ttl: 1800 }),
      secret: "of the load, and of nothing else",
      resave: false, // what its documentation recommends: an unchanged session is touched
      saveUninitialized: false,
    }),
  );
}

app.get("/fill", (request, response) => {
  if (!bare) Object.assign(request.session, content);
  response.type("text").send("filled");
});
app.get("/read", (request, response) => {
  response.type("text").send(bare ? "Ada Lovelace" : request.session.name);
});
app.get("/write", (request, response) => {
  if (!bare) request.session.hits += 1;
  response.type("text").send("written");
});
app.get("/hits", (request, response) => {
  response.type("text").send(String(request.session.hits));
});
app.listen(Number(process.argv[2]), "127.0.0.1");
