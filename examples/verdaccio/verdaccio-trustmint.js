// A plug-in of verdaccio 6: trustmint decides every change. Reasons: docs/plugging-in.md; settings: config.yaml.template.
"use strict";
const { createHash } = require("node:crypto"), { readFileSync } = require("node:fs"), { isIP } = require("node:net");
const { basename } = require("node:path"), http = require("node:http"), https = require("node:https");
const { isDeepStrictEqual, promisify } = require("node:util"), gunzip = promisify(require("node:zlib").gunzip);

const TIMEOUT = 4000; // milliseconds for the whole question, however slow the answer
const UNPACKED = 256 << 20; // bytes that a tarball may unpack to
// As npm writes versions, without build metadata: rules compare text.
const PART = "(0|[1-9]\\d*|\\d*[A-Za-z-][\\dA-Za-z-]*)", NUMBER = "(0|[1-9]\\d*)";
const VERSION = new RegExp(`^${NUMBER}\\.${NUMBER}\\.${NUMBER}(-${PART}(\\.${PART})*)?$`);
const NO_TOKEN = "no upload token was sent, and nothing else is accepted: CI jobs are given one for their ID token. " +
    "If this is a CI job, its exchange failed and the client went on without a token: look for the reason with the " +
    "client's most detailed log (npm: --loglevel verbose), or ask the registry's operator, who has it";

const requests = new WeakMap(); // verdaccio's user of one request → that request
const decisions = new WeakMap(); // a request → its decision: about some, verdaccio asks twice
const turns = new Map(); // a package → the end of the last change in line
let storage; // verdaccio's own, which it gives to its middlewares only

class Refused extends Error {
    constructor(reason, status, retryAfter = "5") {
        super(reason);
        Object.assign(this, { status, retryAfter });
    }
}

/** Else the request ends here, nothing changed. Clients show the reason. */
function need(holds, reason, status = 400) {
    if (!holds) throw new Refused(reason, status);
    return holds;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const has = (object, key) => isObject(object) && typeof key === "string" && Object.hasOwn(object, key);
const same = (said, is) => said === undefined || said === is;
const digest = (algorithm, bytes, encoding) => createHash(algorithm).update(bytes).digest(encoding);
const fileOf = (name, version) => `${basename(name)}-${version}.tgz`;

/** The one entry of an object, itself an object. */
function only(object, what) {
    const entries = isObject(object) ? Object.entries(object) : [];
    need(entries.length === 1, `publish one ${what} at a time, without provenance; this request has ${entries.length}`);
    need(isObject(entries[0][1]), `the ${what} is not an object`);
    return entries[0];
}

/** A number of a tar header. SECURITY: octal and nothing else: of the rest readers make what they like, also less than zero. */
const octal = (text) => parseInt(need(/^ *[0-7]+ *$/.test(text), "the file has a header with no number in it") && text, 8);
const EXTENSION = /^(\d+) (path|size|[acm]time|[ug]id|[ug]name|SCHILY\.(?:dev|ino|nlink))=(.*)$/;

/** What an extended header says of the next file. npm and yarn write one where a path is long or not ASCII. */
function extended(text) {
    const lines = text.split("\n"), said = new Map(), read = (line) => EXTENSION.exec(line) ?? [];
    need(lines.pop() === "" && lines.length, "the file has an extended header that does not end");
    for (const line of lines) {
        const [, length, key, value] = read(line);
        need(Number(length) === Buffer.byteLength(line) + 1 && !said.has(key), "the file has an extended header that cannot be read");
        said.set(key, value);
    }
    return said;
}

/** The one `package.json` in a tarball. SECURITY: what an installer could read differently is refused. */
async function packed(bytes) {
    const tar = await gunzip(bytes, { maxOutputLength: UNPACKED }).catch(() => need(false, "the file cannot be unpacked"));
    const text = (from, length) => tar.toString("utf8", from, from + length).replace(/\0.*/s, "");
    let at = 0, more = new Map(), manifest;
    for (let size; at + 512 <= tar.length && tar[at] !== 0; at += 512 + Math.ceil(size / 512) * 512) {
        size = octal(text(at + 124, 12));
        const sum = tar.subarray(at, at + 512).reduce((sum, byte, i) => sum + (i < 148 || i > 155 ? byte : 32), 0);
        need(octal(text(at + 148, 8)) === sum && at + 512 + size <= tar.length, "the file has a broken header");
        const type = String.fromCharCode(tar[at + 156] || 48), content = () => tar.toString("utf8", at + 512, at + 512 + size);
        const magic = tar.toString("latin1", at + 257, at + 265), prefix = text(at + 345, 155);
        need(magic === "ustar\x0000" || (magic === "ustar  \0" && !prefix), "the file is no tar file as npm writes it");
        if ("xL".includes(type) && !more.size) { // L: GNU's long path, which pnpm writes
            more = type === "x" ? extended(content()) : new Map([["path", content().replace(/\0$/, "")]]);
            continue;
        }
        need(type === "0" || (type === "5" && size === 0), "the file has something else than files and folders in it");
        need(same(more.get("size"), String(size)), "the file says two sizes of one file");
        const path = (more.get("path") ?? (prefix && `${prefix}/`) + text(at, 100)).replace(type === "5" ? /\/$/ : /$^/, "");
        const parts = path.split("/").filter((part, i) => !i || part !== "."); // `files: ["./x"]` makes `package/./x`
        need(!parts.some((part) => ["", ".", ".."].includes(part)) && !/[\0\\]/.test(path), "the file has a path that is not plain");
        if (parts[1]?.toLowerCase().toUpperCase() === "PACKAGE.JSON") { // on some disks these are all one file
            need(parts.length === 2 && parts[1] === "package.json" && type === "0" && manifest === undefined && !more.has("path"),
                 "the file has more than one package.json");
            manifest = content();
        }
        more = new Map();
    }
    const rest = tar.subarray(at);
    need(rest.equals(Buffer.alloc(rest.length)), "the file goes on after its end");
    return JSON.parse(need(manifest, "the file has no package.json"));
}

/** What is installed beside a package, as npm reads it from the manifest. */
const installed = ({ dependencies, optionalDependencies, peerDependencies }) =>
    [{ ...dependencies, ...optionalDependencies }, { ...peerDependencies }];

/** SECURITY: installers go by the manifest, and it is not in the digest that a token may be narrowed to. */
async function compare(manifest, bytes) {
    const own = await packed(bytes).catch((fault) => need(false, fault.status ? fault.message : "package.json cannot be read"));
    need(isObject(own) && own.name === manifest.name && own.version === manifest.version,
         "the package.json in the file has another name or version");
    need(isDeepStrictEqual(installed(manifest), installed(own)),
         "the manifest has other dependencies than the package.json in the file");
}

/** What a publication stores. SECURITY: it says name and version many times, and readers differ in which they use. */
function publication(name, { body, params }, stored) {
    const [version, manifest] = only(body.versions, "version"), [key, { data }] = only(body._attachments, "file");
    const file = fileOf(name, version), { shasum, integrity, tarball } = isObject(manifest.dist) ? manifest.dist : {};
    need(!params._rev && same(body._id, name) && body.name === name && manifest.name === name,
         `the request is about ${JSON.stringify(name)}, and its body about another package`);
    need(VERSION.test(version) && manifest.version === version && same(manifest._id, `${name}@${version}`),
         `${JSON.stringify(version)} is not the one version, written as npm writes it`);
    need(basename(key) === file && typeof tarball === "string" && tarball.endsWith(`/${file}`) && !/[?#\\]/.test(tarball),
         `the file of ${name} ${version} is called ${file}`);
    need(Object.values(body["dist-tags"] ?? {}).every((tagged) => tagged === version),
         "a publication sets tags to its own version only");
    need(typeof data === "string", "the file is not in base64");
    const bytes = Buffer.from(data, "base64"); // the call that verdaccio stores it with: the very bytes
    need(same(shasum, digest("sha1", bytes, "hex")) && same(integrity, `sha512-${digest("sha512", bytes, "base64")}`),
         "the manifest has the digests of another file");
    need(!has(stored?.versions, version), `${name} ${version} already exists`, 409); // before a use is spent
    // No action: the service has `exists`. SECURITY: only what it allows is unpacked.
    return [{ version, sha256: digest("sha256", bytes, "hex"), size: bytes.length, check: () => compare(manifest, bytes) }];
}

/** What a new packument does to the stored one. SECURITY: verdaccio takes over all of it: versions left out are gone. */
function edit(name, { body }, stored) {
    need(stored, `${name} is not here, and the request has no file to publish`, 404);
    need(body.name === name && isObject(body.versions) && isObject(body["dist-tags"]), `this is no packument of ${name}`);
    need(body._rev === stored._rev, `${name} was changed meanwhile: try again`, 409);
    need(JSON.stringify(body.users ?? {}) === JSON.stringify(stored.users ?? {}), "this registry has no stars");
    const [was, will] = [stored.versions, body.versions], [from, to] = [stored["dist-tags"], body["dist-tags"]];
    need(Object.keys(will).every((version) => has(was, version)), "a version cannot be added without its file");
    const gone = Object.keys(was).filter((version) => !isObject(will[version]));
    const deprecated = Object.keys(was).filter((version) => has(will[version], "deprecated") &&
        will[version].deprecated !== (was[version].deprecated ?? ""));
    need(deprecated.every((version) => typeof will[version].deprecated === "string"), "a deprecation is a text");
    const moved = Object.keys({ ...from, ...to }).filter((tag) => from[tag] !== to[tag]);
    need(moved.every((tag) => to[tag] === undefined || (has(was, to[tag]) && !gone.includes(to[tag]))),
         "a tag must name a version that is here");
    const tagged = moved.filter((tag) => !gone.includes(from[tag])); // the others go with their version
    const changes = { delete: gone, deprecate: deprecated, tag: tagged.map((tag) => to[tag] ?? from[tag]) };
    const asked = Object.entries(changes).filter(([, versions]) => versions.length);
    need(asked.length, "the request changes nothing");
    return asked.map(([action, versions]) => (versions.length === 1 ? { action, version: versions[0] } : { action }));
}

function removal(name, _request, stored) {
    need(stored, `${name} is not here`, 404);
    return [{ action: "delete" }];
}

function fileRemoval(name, { params }, stored) {
    const version = params.filename.slice(basename(name).length + 1, -".tgz".length);
    need(stored && VERSION.test(version) && params.filename === fileOf(name, version), `${name} has no such file`, 404);
    return [{ action: "delete", version }];
}

function tagging(name, { body, params, method }, stored) {
    const tags = stored?.["dist-tags"], version = method !== "DELETE" ? body : has(tags, params.tag) && tags[params.tag];
    need(has(stored?.versions, version), `${name} has no such tag or version`, 404);
    return [{ action: "tag", version }];
}

/** verdaccio's own routes. What is not here is refused, also what a later verdaccio adds. */
const ROUTES = {
    "PUT /:package/:_rev?/:revision?": (name, request, stored) =>
        (Object.keys(request.body._attachments ?? {}).length ? publication : edit)(name, request, stored),
    "DELETE /:package/-rev/*": removal,
    "DELETE /:package/-/:filename/-rev/:revision": fileRemoval,
    "PUT /-/package/:package/dist-tags/:tag": tagging,
    "POST /-/package/:package/dist-tags/:tag": tagging,
    "DELETE /-/package/:package/dist-tags/:tag": tagging,
};

/** The packument that is stored, if there is one. */
const look = (name) => new Promise((found, failed) => storage.getPackage({
    name, uplinksLook: false,
    callback: (error, packument) => (error && error.status !== 404 ? failed(error) : found(error ? undefined : packument)),
}));

/** Waits until nobody else changes the package. This turn lasts until the request is answered. */
function turn(name, response) {
    const before = turns.get(name) ?? Promise.resolve(), answered = new Promise((done) => response.once("close", done));
    const over = before.then(() => response.closed || answered);
    turns.set(name, over);
    over.then(() => turns.get(name) === over && turns.delete(name));
    return before;
}

/** Why not, or nothing. One POST: no redirect, retry or proxy. The key is read anew each time, so it can be rotated. */
async function ask({ trustmint, api_key_file }, question) {
    const url = new URL("/v1/verify", trustmint), { Agent, request } = url.protocol === "https:" ? https : http;
    const key = readFileSync(api_key_file, "utf8").trim();
    const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
    const options = { method: "POST", headers, agent: new Agent(), signal: AbortSignal.timeout(TIMEOUT) };
    const answer = await new Promise((answered, failed) =>
        request(url, options, answered).on("error", failed).end(JSON.stringify(question)));
    let text = "";
    for await (const part of answer.setEncoding("utf8")) text += part;
    const { allowed, code, reasons, message } = JSON.parse(text), status = answer.statusCode;
    if (status === 200 && allowed === true) return undefined;
    if (status === 200) return new Refused(`${code}: ${reasons.join(" ")}`, 403);
    if (![429, 503].includes(status)) throw new Error(`status ${status}`);
    return new Refused(`${code}: ${message}`, 503, answer.headers["retry-after"]); // it cannot say just now
}

/** Returns if the change may be made. All that is read is verdaccio's own reading of the request. */
async function decide(config, logger, name, request) {
    const { headers, res: response, params, body } = request, route = `${request.method} ${request.route.path}`;
    const [, token] = need(/^Bearer ([!-~]+)$/i.exec(headers.authorization ?? ""), NO_TOKEN, 403);
    need(has(ROUTES, route) && (isObject(body) || typeof body === "string"), "this registry does not support that");
    const address = headers["x-forwarded-for"];
    need(isIP(address), "the proxy in front does not say where the client is", 500);
    await turn(name, response);
    const stored = await look(name);
    for (const { check, ...change } of ROUTES[route](name, request, stored)) {
        const facts = { package: name, exists: stored !== undefined, ...change };
        // The same again is the same use, also from another address of the same runner.
        facts.consume = digest("sha256", JSON.stringify([route, params, body, facts]), "hex");
        facts.client_ip = address;
        const refused = await ask(config, { token, ...facts }).catch((fault) => {
            logger.error({ fault: String(fault) }, "trustmint gave no answer: @{fault}");
            return new Refused("trustmint cannot be asked just now; nothing was changed, try again", 503);
        });
        if (refused?.status === 503) response.setHeader("Retry-After", refused.retryAfter);
        if (refused) throw refused; // SECURITY: without a yes, nothing changes
        await check?.();
    }
    need(!response.closed, "the client has gone");
}

module.exports = (config, { logger }) => {
    const may = (user, { name }, done) => {
        const request = requests.get(user);
        if (request?.params.package !== name) return done(new Refused("this registry does not support that", 403));
        if (!decisions.has(request)) decisions.set(request, decide(config, logger, name, request));
        decisions.get(request).then(() => done(null, true), done);
    };
    const nobody = (...given) => given.at(-1)(new Refused("this registry has no users, only upload tokens", 403));
    return {
        register_middlewares: (_app, _auth, own) => { storage = own; },
        apiJWTmiddleware: ({ createAnonymousRemoteUser }) => (request, _response, next) => {
            requests.set(request.remote_user = createAnonymousRemoteUser(), request);
            next();
        },
        authenticate: nobody, adduser: nobody, changePassword: nobody,
        allow_access: (_user, _package, done) => done(null, true), // everybody reads
        allow_publish: may, allow_unpublish: may,
    };
};
