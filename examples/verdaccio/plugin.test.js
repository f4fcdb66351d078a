// What the plug-in asks trustmint, what verdaccio then stores, and that every hostile request is refused with nothing
// changed. Run: VERDACCIO=…/node_modules/verdaccio node --test plugin.test.js. A stub stands in for trustmint.
"use strict";
const assert = require("node:assert/strict"), { createHash } = require("node:crypto"), fs = require("node:fs");
const http = require("node:http"), os = require("node:os"), path = require("node:path"), { gzipSync } = require("node:zlib");
const { after, before, beforeEach, test } = require("node:test");

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "verdaccio-")), storage = path.join(directory, "storage");
const ALLOWED = { allowed: true, token: {}, publisher: {} };
const stub = { questions: [], keys: [] };
let trustmint, registry, port;

before(async () => {
    trustmint = http.createServer(async (request, response) => {
        let text = "";
        for await (const part of request) text += part;
        stub.keys.push(request.headers.authorization);
        stub.questions.push([request.method, request.url, JSON.parse(text)]);
        await stub.hold?.();
        if (stub.status === null) return request.socket.destroy();
        response.writeHead(stub.status, stub.headers);
        return stub.trickle ? response.write(" ") : response.end(stub.body);
    }).listen(0, "127.0.0.1");
    await new Promise((listening) => trustmint.once("listening", listening));
    fs.writeFileSync(path.join(directory, "api-key"), "the-api-key\n");
    const { runServer } = require(process.env.VERDACCIO);
    registry = await runServer({
        storage, plugins: __dirname, configPath: path.join(directory, "config.yaml"),
        auth: { trustmint: { trustmint: `http://127.0.0.1:${trustmint.address().port}`, api_key_file: `${directory}/api-key` } },
        middlewares: { trustmint: {} }, uplinks: {}, web: { enable: false },
        packages: { "**": { access: "$all", publish: [], unpublish: [] } },
        log: { type: "file", path: path.join(directory, "log"), level: "warn" },
    });
    await new Promise((listening) => registry.listen(0, "127.0.0.1", listening));
    port = registry.address().port;
});

after(() => {
    registry.close();
    registry.closeAllConnections();
    trustmint.close();
    trustmint.closeAllConnections();
    fs.rmSync(directory, { recursive: true });
});

beforeEach(() => {
    Object.assign(stub, { status: 200, body: JSON.stringify(ALLOWED), headers: {}, hold: null, trickle: false, questions: [], keys: [] });
});

/** The answer as [status, error or body, headers]. The address is what nginx puts there. */
function send(method, target, body, headers = {}) {
    const given = { "x-forwarded-for": "203.0.113.7", authorization: "Bearer tok", ...headers };
    if (body !== undefined) given["content-type"] ??= "application/json";
    for (const name of Object.keys(given)) if (given[name] === null) delete given[name];
    return new Promise((answered, failed) => {
        const request = http.request({ host: "127.0.0.1", port, method, path: target, headers: given, agent: false }, async (response) => {
            let text = "";
            for await (const part of response) text += part;
            const parsed = text.startsWith("{") ? JSON.parse(text) : text;
            answered([response.statusCode, parsed.error ?? parsed, response.headers]);
        }).on("error", failed);
        request.end(body === undefined || typeof body === "string" ? body : JSON.stringify(body));
    });
}

/** One member of a tar file; `change` may spoil its header before the sum is taken, `sum` after. */
function member(name, content, change = () => {}, sum = 0) {
    const text = Buffer.from(typeof content === "string" ? content : JSON.stringify(content)), head = Buffer.alloc(512);
    head.write(name);
    head.write(text.length.toString(8).padStart(11, "0"), 124);
    head.write("0", 156);
    head.write("ustar\x0000", 257, "latin1");
    change(head);
    head.fill(" ", 148, 156);
    head.write(`${(head.reduce((all, byte) => all + byte) + sum).toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    return Buffer.concat([head, text, Buffer.alloc(-text.length & 511)]);
}
const typed = (type) => (head) => head.write(type, 156, "latin1");
const archive = (...members) => gzipSync(Buffer.concat([...members, Buffer.alloc(1024)]));

/** A tarball with these files. */
const tarball = (files) => archive(...Object.entries(files).map(([file, content]) => member(file, content)));

/** One record of an extended header. */
function record(text) {
    let length = Buffer.byteLength(text) + 2;
    while (Buffer.byteLength(`${length} ${text}\n`) !== length) length++;
    return `${length} ${text}\n`;
}

/** A publication as npm sends it; `change` may spoil it. */
function publication(name, version, change = () => {}, bytes = tarball({ "package/package.json": { name, version } })) {
    const digest = (algorithm, encoding) => createHash(algorithm).update(bytes).digest(encoding), base = name.split("/").at(-1);
    const body = {
        _id: name, name, "dist-tags": { latest: version }, access: null,
        versions: { [version]: {
            name, version, _id: `${name}@${version}`,
            dist: {
                integrity: `sha512-${digest("sha512", "base64")}`, shasum: digest("sha1", "hex"),
                tarball: `http://registry.example/${name}/-/${base}-${version}.tgz`,
            },
        } },
        _attachments: { [`${name}-${version}.tgz`]: {
            content_type: "application/octet-stream", data: bytes.toString("base64"), length: bytes.length,
        } },
    };
    change(body, body.versions[version]);
    return body;
}

const at = (name) => `/${name.replace("/", "%2f")}`;
const publish = (name, version, ...more) => send("PUT", at(name), publication(name, version, ...more));
const packument = async (name) => (await send("GET", `${at(name)}?write=true`))[1];
/** Everything that is stored: what a refused request must leave as it is. */
const stored = () => fs.readdirSync(storage, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name)).map((file) => [file, fs.readFileSync(file, "utf8")]).sort();

/** The questions since the last time, without what they share. */
function asked() {
    return stub.questions.splice(0).map(([method, url, { token, client_ip, consume, ...question }]) => {
        assert.deepEqual([method, url, token, client_ip], ["POST", "/v1/verify", "tok", "203.0.113.7"]);
        assert.match(consume, /^[0-9a-f]{64}$/);
        return question;
    });
}

async function refused(answer, status, words) {
    const [was, error] = await answer;
    assert.equal(was, status, JSON.stringify(error));
    assert.match(error, words);
    assert.deepEqual(stub.questions.splice(0), [], "nobody was asked");
}

let number = 0;
/** A new package with one version, published, as [name, packument]. */
async function published(...versions) {
    const name = `@acme/p${++number}`;
    for (const version of versions) assert.equal((await publish(name, version))[0], 201);
    stub.questions.length = 0;
    return [name, await packument(name)];
}

test("a publication is asked about as it is stored, with whether the package is there", async () => {
    for (const [version, exists] of [["1.0.0", false], ["1.1.0-rc.1", true]]) {
        const bytes = tarball({ "package/index.js": "the very bytes", "package/package.json": { name: "@acme/widgets", version } });
        assert.equal((await publish("@acme/widgets", version, undefined, bytes))[0], 201);
        const sha256 = createHash("sha256").update(bytes).digest("hex");
        assert.deepEqual(asked(), [{ package: "@acme/widgets", exists, version, sha256, size: bytes.length }]);
        assert.deepEqual(fs.readFileSync(path.join(storage, `@acme/widgets/widgets-${version}.tgz`)), bytes);
    }
    assert.deepEqual(stub.keys, ["Bearer the-api-key", "Bearer the-api-key"]);
    assert.equal((await send("GET", "/@acme%2fwidgets/-/widgets-1.0.0.tgz", undefined, { authorization: null }))[0], 200);
    assert.equal((await publish("plain", "0.0.1"))[0], 201);
    assert.equal(asked()[0].package, "plain");
});

test("every spelling of the name in the path is the one package", async () => {
    for (const [index, target] of ["/@acme%2fspelt", "/@acme%2Fspelt", "/%40acme%2fspelt", "/@acme/spelt"].entries()) {
        assert.equal((await send("PUT", target, publication("@acme/spelt", `1.${index}.0`)))[0], 201, target);
        assert.equal(asked()[0].package, "@acme/spelt");
    }
});

test("a refusal changes nothing and says why in the service's words", async () => {
    const [name, before] = await published("1.0.0"), kept = stored();
    stub.body = JSON.stringify({ allowed: false, code: "package-not-covered", reasons: ["the token is for `x`", "not this"] });
    const edit = structuredClone(before);
    edit.versions["1.0.0"].deprecated = "old";
    for (const answer of [
        publish(name, "1.1.0"), publish("@acme/never", "1.0.0"), send("PUT", at(name), edit), send("DELETE", `${at(name)}/-rev/1`),
        send("DELETE", `${at(name)}/-/${name.split("/")[1]}-1.0.0.tgz/-rev/1`), send("PUT", `/-/package${at(name)}/dist-tags/x`, '"1.0.0"'),
    ]) {
        const [status, error] = await answer;
        assert.deepEqual([status, error], [403, "package-not-covered: the token is for `x` not this"]);
    }
    assert.equal(asked().length, 6);
    assert.deepEqual(stored(), kept);
});

test("without an answer that allows nothing is stored", async () => {
    const kept = stored();
    for (const change of [
        { status: null }, { status: 201 }, { status: 204 }, { status: 302, headers: { location: "/v1/verify" } }, { status: 401 }, { status: 500 },
        { body: "" }, { body: "yes" }, { body: "[]" }, { body: "null" }, { body: '{"allowed":"true"}' }, { body: '{"allowed":1}' },
        { body: '{"allowed":true' }, { body: '{"allowed":false}' },
    ]) {
        Object.assign(stub, { status: 200, body: JSON.stringify(ALLOWED), headers: {} }, change);
        const [status, error, headers] = await publish("@acme/unanswered", "1.0.0");
        assert.equal(status, 503, JSON.stringify(change));
        assert.match(error, /nothing was changed/);
        assert.equal(headers["retry-after"], "5");
    }
    Object.assign(stub, { status: 503, body: '{"code":"store-unavailable","message":"in a while"}', headers: { "retry-after": "7" } });
    const [status, error, headers] = await publish("@acme/unanswered", "1.0.0");
    assert.deepEqual([status, error, headers["retry-after"]], [503, "store-unavailable: in a while", "7"]);
    fs.renameSync(`${directory}/api-key`, `${directory}/away`);
    assert.equal((await publish("@acme/unanswered", "1.0.0"))[0], 503);
    fs.renameSync(`${directory}/away`, `${directory}/api-key`);
    assert.deepEqual(stored(), kept);
});

test("an answer that takes too long is no answer", async (context) => {
    const { timeout } = AbortSignal;
    context.after(() => { AbortSignal.timeout = timeout; });
    AbortSignal.timeout = (milliseconds) => timeout(milliseconds / 40); // the test need not wait as long as a client
    stub.trickle = true;
    const [status, error] = await publish("@acme/slow", "1.0.0");
    assert.deepEqual([status, /nothing was changed/.test(error)], [503, true]);
});

test("who has no upload token, or another credential, gets nowhere", async () => {
    const [name, is] = await published("1.0.0"), kept = stored();
    for (const authorization of [null, "", "Bearer", "Bearer ", "Basic dG9rOnRvaw==", "tok", "Bearer a b"]) {
        await refused(send("PUT", at(name), publication(name, "2.0.0"), { authorization }), 403, /no upload token was sent.*operator/);
        await refused(send("DELETE", `${at(name)}/-rev/${is._rev}`, undefined, { authorization }), 403, /no upload token/);
    }
    const login = { name: "eve", password: "long enough", type: "user" };
    await refused(send("PUT", "/-/user/org.couchdb.user:eve", login), 403, /no users/);
    await refused(send("POST", "/-/npm/v1/tokens", { password: "x" }), 401, /no users/);
    assert.equal((await send("POST", "/-/npm/v1/user", { password: { old: "x", new: "long enough" } }))[0], 401);
    assert.deepEqual(stored(), kept);
});

test("a publication whose parts are about different things is refused unasked", async () => {
    const [name] = await published("1.0.0"), kept = stored(), base = name.split("/")[1];
    const fileAt = (text) => (_body, manifest) => { manifest.dist.tarball = text; };
    for (const change of [
        (body) => { body.name = "@acme/gadgets"; },
        (body) => { delete body.name; },
        (body) => { body._id = "@acme/gadgets"; },
        (_body, manifest) => { manifest.name = "@acme/gadgets"; },
        (_body, manifest) => { delete manifest.name; },
        (_body, manifest) => { manifest._id = "@acme/gadgets@2.0.0"; },
        (_body, manifest) => { manifest.version = "3.0.0"; },
        (body) => { body["dist-tags"] = { latest: "1.0.0" }; },
        (body) => { body["dist-tags"] = { next: "2.0.0", latest: null }; },
        (body) => { body["dist-tags"] = { next: ["2.0.0"] }; },
        (body) => { body._attachments = { [`${name}-1.0.0.tgz`]: Object.values(body._attachments)[0] }; },
        (body) => { body._attachments = { [`${name}-2.0.0.tgz/../x.tgz`]: Object.values(body._attachments)[0] }; },
        (body) => { body._attachments["x.sigstore"] = { data: "eA==" }; },
        (body) => { body.versions["2.0.1"] = body.versions["2.0.0"]; },
        (body) => { body.versions = { "2.0.0": null }; },
        (body) => { body.versions = [body.versions["2.0.0"]]; },
        (body) => { delete body.versions; },
        (body) => { delete body.versions; body.users = { eve: true }; },
        (body) => { Object.values(body._attachments)[0].data = Buffer.from("other").toString("base64"); },
        (body) => { Object.values(body._attachments)[0].data = ["eA=="]; },
        (body) => { delete Object.values(body._attachments)[0].data; },
        (_body, manifest) => { manifest.dist.integrity = "sha512-AAAA"; },
        (_body, manifest) => { manifest.dist.shasum = "0".repeat(40); },
        (_body, manifest) => { delete manifest.dist; },
        fileAt(undefined), fileAt(`http://registry.example/${name}/-/${base}-1.0.0.tgz`),
        fileAt(`http://registry.example/${base}-1.0.0.tgz?/${base}-2.0.0.tgz`),
        fileAt(`http://registry.example/${base}-1.0.0.tgz#/${base}-2.0.0.tgz`),
        fileAt(`http://registry.example/${base}-1.0.0.tgz\\/${base}-2.0.0.tgz`),
    ]) {
        await refused(publish(name, "2.0.0", change), 400, /./);
    }
    for (const version of ["2.0", "v2.0.0", "2.0.0+build", "02.0.0", "2.0.0 ", "latest", "__proto__", "2.0.0-01", "../x"]) {
        await refused(send("PUT", at(name), publication(name, "2.0.0", (body, manifest) => {
            body.versions = JSON.parse(`{${JSON.stringify(version)}: ${JSON.stringify({ ...manifest, version })}}`);
        })), 400, /./);
    }
    await refused(send("PUT", `${at(name)}/-rev/1-x`, publication(name, "2.0.0")), 400, /another package/);
    await refused(send("PUT", "/@acme%2fgadgets", publication(name, "2.0.0")), 400, /another package/);
    await refused(publish(name, "1.0.0", undefined, tarball({ "replaced/package.json": {} })), 409, /already exists/);
    assert.deepEqual(stored(), kept);
});

/** Refused after trustmint allowed it: nobody else's file is unpacked. */
async function unread(name, version, file, words, change) {
    const kept = stored(), [status, error] = await publish(name, version, change, file);
    assert.deepEqual([status, stored()], [400, kept], JSON.stringify(error));
    assert.match(error, words);
    assert.equal(asked().length, 1);
}

test("the manifest has the dependencies that the file has", async () => {
    const [name] = await published("1.0.0"), version = "2.0.0";
    const own = { name, version, dependencies: { a: "1", b: "2" }, optionalDependencies: { b: "2" }, peerDependencies: { c: "3" } };
    const bytes = tarball({ "package/readme": "x".repeat(700), "package/lib/package.json": "{", "package/package.json": own });
    for (const change of [
        {}, { ...own, dependencies: { a: "1", b: "2", evil: "1" } }, { ...own, dependencies: { a: "2" } },
        { ...own, peerDependencies: {} }, { ...own, optionalDependencies: { b: "2", evil: "1" } }, { dependencies: own.dependencies },
    ]) {
        await unread(name, version, bytes, /other dependencies/, (_body, manifest) => Object.assign(manifest, change));
    }
    for (const file of [
        Buffer.from("no gzip"), gzipSync("no tar"), tarball({ "package/index.js": "x" }), tarball({ "package/package.json": "{" }),
        tarball({ "package/package.json": "[]" }), tarball({ "package/package.json": "null" }), bytes.subarray(0, 40),
    ]) {
        await unread(name, version, file, /./);
    }
    for (const other of [{ name: "lodash", version }, { name, version: "9.9.9" }, { name }, { version }, {}]) {
        await unread(name, version, tarball({ "package/package.json": other }), /another name or version/);
    }
    // npm leaves out of `dependencies` what is optional.
    const npms = { ...own, dependencies: { a: "1" } };
    assert.equal((await publish(name, "2.0.0", (_body, manifest) => Object.assign(manifest, npms), bytes))[0], 201);
    stub.questions.length = 0;
});

test("a file that installers could read differently is refused", async () => {
    const [name] = await published("1.0.0"), version = "2.0.0", own = member("package/package.json", { name, version });
    const evil = { name, version, dependencies: { evil: "1" } }, size = (text) => (head) => head.write(text.padEnd(12, "\0"), 124, "latin1");
    const other = (path) => member(path, evil), more = (...records) => member("PaxHeader/x", records.join(""), typed("x"));
    const path = record("path=package/package.json"), long = record("path=package/x");
    for (const [words, ...members] of [
        // A size below zero once led back to where the reader was.
        ...["-0000001000", "-1", "0x10", "1e3", "9", "", "0000000100 1", "\x80", "\xff\xff\xff\xff"].map((text) =>
            [/no number/, own, member("package/x", "", size(text))]),
        [/broken header/, own, member("package/x", "", size("77777777777"))],
        [/broken header/, own, member("package/x", "", undefined, 1)],
        [/broken header/, member("package/package.json", { name, version }, undefined, 1)],
        ...["package", "other"].map((folder) => [/more than one/, own, other(`${folder}/package.json`)]),
        ...["PACKAGE.json", "pac\u212aage.json", "pac\u212aage.j\u017fon"].map((file) => [/more than one/, own, other(`package/${file}`)]),
        [/more than one/, other("package/Package.json")], [/more than one/, own, member("package/package.json/", "", typed("5"))],
        [/more than one/, own, other("package/package.json/x")],
        ...["./package.json", "././package.json"].map((rest) => [/more than one/, own, other(`package/${rest}`)]),
        ...["/package.json", "x/../package.json"].map((rest) => [/not plain/, own, other(`package/${rest}`)]),
        [/not plain/, own, other("package/..\\package.json")], [/not plain/, own, other("/package/package.json")],
        [/not plain/, own, member("package/x/", "y")], [/not plain/, own, other("./package/package.json")],
        [/more than one/, own, member("package.json", evil, (head) => head.write("package", 345))],
        [/no package.json/, member("package.json", evil, (head) => head.write("package/deep", 345))],
        [/as npm writes/, own, member("x", evil, (head) => head.fill(0, 257, 265))],
        [/as npm writes/, own, member("x", evil, (head) => { head.write("ustar  \0", 257, "latin1"); head.write("package", 345); })],
        ...[..."12346gKSDMNV7X"].map((type) => [/something else/, own, member("package/x", "", typed(type))]),
        [/something else/, own, member("package/x", "y", typed("5"))],
        [/more than one/, own, more(path), other("package/x")], [/more than one/, more(path), other("package/x")],
        [/no package.json/, more(long), other("package/package.json")],
        [/more than one/, own, member("L", "package/package.json\0", typed("L")), other("package/x")],
        [/not plain/, own, member("L", "package/package.json\0x\0", typed("L")), other("package/x")],
        [/something else/, own, more(long), member("L", "package/package.json\0", typed("L")), other("package/x")],
        [/two sizes/, own, more(record("size=0")), other("package/x")],
        [/something else/, own, more(long), more(long), other("package/x")],
        ...["GNU.sparse.name=package/package.json", "linkpath=x", "comment=x", "=x"].map((text) =>
            [/cannot be read/, own, more(record(text)), other("package/x")]),
        [/cannot be read/, own, more(long, long), other("package/x")],
        [/cannot be read/, own, more(long.replace(/\d+/, "9")), other("package/x")],
        [/cannot be read/, own, more(record(`path=package/x\n${path.trim()}`)), other("package/x")],
        [/does not end/, own, more(long.trim()), other("package/x")], [/does not end/, own, more(), other("package/x")],
        [/after its end/, own, Buffer.alloc(512), other("package/package.json")],
    ]) {
        await unread(name, version, archive(...members), words);
    }
    await unread(name, version, gzipSync(Buffer.alloc((256 << 20) + 1), { level: 1 }), /cannot be unpacked/);
    const deep = `package/${"long/".repeat(40)}package.json`;
    assert.equal((await publish(name, version, undefined, archive(
        member("package/", "", typed("5")), member("package/readme", "x", typed("\0")), more(record(`path=${deep}`), record("size=1")),
        member(deep.slice(0, 100), "1"), own, more(record("path=package/\u00e9")), member("package/?", "x"),
        member("package/./lib/package.json", "{"), member("L", `${deep}.js\0`, typed("L")), member(deep.slice(0, 100), "2"), member("package/gnu", "x", (head) => head.write("ustar  \0", 257, "latin1")),
    )))[0], 201);
    stub.questions.length = 0;
});

test("nobody's file is unpacked whom trustmint has not allowed to publish it", async () => {
    stub.body = JSON.stringify({ allowed: false, code: "upload-token-malformed", reasons: ["no"] });
    const [status, error] = await publish("@acme/unpacked", "1.0.0", undefined, Buffer.from("no gzip"));
    assert.deepEqual([status, error], [403, "upload-token-malformed: no"]);
});

test("a packument edit is asked about as what it changes", async () => {
    const [name] = await published("1.0.0", "1.1.0", "2.0.0");
    const put = async (change, more = "") => {
        const body = await packument(name);
        change(body);
        return send("PUT", at(name) + more, body);
    };
    const rest = { package: name, exists: true };
    assert.equal((await put((body) => { body.versions["1.0.0"].deprecated = "old"; }))[0], 201);
    assert.deepEqual(asked(), [{ ...rest, action: "deprecate", version: "1.0.0" }]);
    assert.equal((await put((body) => { for (const version in body.versions) body.versions[version].deprecated = "all"; }))[0], 201);
    assert.deepEqual(asked(), [{ ...rest, action: "deprecate" }], "more than one version is none in particular");
    assert.equal((await put((body) => { body["dist-tags"].old = "1.0.0"; }, "/-rev/1"))[0], 201);
    assert.deepEqual(asked(), [{ ...rest, action: "tag", version: "1.0.0" }]);
    // As `npm unpublish` does: the version's tags go with it.
    assert.equal((await put((body) => { delete body.versions["1.0.0"]; delete body["dist-tags"].old; }, "/-rev/1"))[0], 201);
    assert.deepEqual(asked(), [{ ...rest, action: "delete", version: "1.0.0" }]);
    const file = `${name.split("/")[1]}-1.0.0.tgz`;
    assert.equal((await send("DELETE", `${at(name)}/-/${file}/-rev/1`))[0], 201);
    assert.deepEqual(asked(), [{ ...rest, action: "delete", version: "1.0.0" }]);
    assert.deepEqual(Object.keys((await packument(name)).versions), ["1.1.0", "2.0.0"]);
    // SECURITY: a deprecation beside which versions vanish and tags move is all three.
    assert.equal((await put((body) => {
        delete body.versions["2.0.0"];
        body.versions["1.1.0"].deprecated = "new";
        body["dist-tags"] = { latest: "1.1.0", odd: "1.1.0" };
    }))[0], 201);
    assert.deepEqual(asked().map(({ action }) => action), ["delete", "deprecate", "tag"]);
    assert.equal((await send("DELETE", `${at(name)}/-rev/1`))[0], 201);
    assert.deepEqual(asked(), [{ ...rest, action: "delete" }]);
    assert.equal((await send("GET", at(name)))[0], 404);
});

test("one action that is refused refuses the whole edit", async () => {
    const [name, body] = await published("1.0.0", "2.0.0"), kept = stored();
    body.versions["2.0.0"].deprecated = "why";
    delete body.versions["1.0.0"];
    stub.hold = () => {
        const { action } = stub.questions.at(-1)[2];
        stub.body = JSON.stringify(action === "delete" ? ALLOWED : { allowed: false, code: "action-not-covered", reasons: ["no"] });
    };
    assert.equal((await send("PUT", at(name), body))[0], 403);
    assert.deepEqual(stored(), kept);
});

test("an edit that is no edit of what is stored is refused unasked", async () => {
    const [name] = await published("1.0.0"), kept = stored();
    for (const [change, status] of [
        [() => {}, 400],
        [(body) => { body._rev = "1-0"; body.versions["1.0.0"].deprecated = "x"; }, 409],
        [(body) => { delete body._rev; body.versions["1.0.0"].deprecated = "x"; }, 409],
        [(body) => { body.name = "@acme/gadgets"; body.versions["1.0.0"].deprecated = "x"; }, 400],
        [(body) => { body.versions["9.0.0"] = { deprecated: "x" }; }, 400],
        [(body) => { body.versions["1.0.0"].deprecated = { toString: "x" }; }, 400],
        [(body) => { body["dist-tags"].x = "9.0.0"; }, 400],
        [(body) => { body["dist-tags"].x = ["1.0.0"]; }, 400],
        [(body) => { body["dist-tags"] = "latest"; }, 400],
        [(body) => { delete body.versions["1.0.0"]; body["dist-tags"].x = "1.0.0"; }, 400],
        [(body) => { body.users = { eve: true }; }, 400],
        [(body) => { delete body.versions; body.users = { eve: true }; }, 400],
        [(body) => { delete body.versions; }, 400],
    ]) {
        const body = await packument(name);
        change(body);
        await refused(send("PUT", at(name), body), status, /./);
    }
    const absent = publication("@acme/absent", "1.0.0", (body) => { delete body._attachments; });
    await refused(send("PUT", "/@acme%2fabsent", absent), 404, /not here/);
    assert.deepEqual(stored(), kept);
});

test("a tag is set, moved and removed as `tag`", async () => {
    const [name] = await published("1.0.0"), target = `/-/package${at(name)}/dist-tags`;
    for (const [method, body] of [["PUT", '"1.0.0"'], ["POST", '"1.0.0"'], ["DELETE", undefined]]) {
        assert.equal((await send(method, `${target}/next`, body))[0], 201, method);
        assert.deepEqual(asked(), [{ package: name, exists: true, action: "tag", version: "1.0.0" }]);
    }
    const kept = stored();
    for (const [method, where, body, status] of [
        ["PUT", "/next", '"9.0.0"', 404], ["PUT", "/next", '["1.0.0"]', 400], ["DELETE", "/none", undefined, 404],
        ["DELETE", "/__proto__", undefined, 400], ["POST", "", '{"latest":"1.0.0"}', 400],
    ]) {
        await refused(send(method, target + where, body), status, /./);
    }
    assert.deepEqual(stored(), kept);
});

test("what is not in the table is refused, whoever sends it", async () => {
    const [name] = await published("1.0.0"), kept = stored();
    for (const [method, target, body, type] of [
        ["PUT", `${at(name)}/latest`, '"1.0.0"', "application/json"],
        ["PUT", `${at(name)}/-/x-1.0.0.tgz/x`, "bytes", "application/octet-stream"],
        ["PUT", `${at(name)}/1.0.0/-tag/x`, "{}", "application/json"],
        ["PUT", at(name), "bytes", "application/octet-stream"],
        ["PUT", at(name), "[]", "application/json"],
        ["PUT", at(name), "null", "application/json"],
        ["PUT", at(name), '"text"', "application/json"],
        ["PUT", at(name), "{", "application/json"],
        ["DELETE", at(name), undefined, null],
        ["DELETE", `${at(name)}/-/..%2fpackage.json/-rev/1`, undefined, null],
        ["DELETE", `${at(name)}/-/package.json/-rev/1`, undefined, null],
        ["PATCH", at(name), "{}", "application/json"],
        ["POST", at(name), "{}", "application/json"],
        ["PUT", "/..%2f..%2fevil", "{}", "application/json"],
        ["PUT", "/__proto__", "{}", "application/json"],
    ]) {
        const [status] = await send(method, target, body, { "content-type": type });
        assert.ok(status >= 400 && status < 500, `${method} ${target}: ${status}`);
    }
    assert.deepEqual(asked(), []);
    assert.deepEqual(stored(), kept);
});

test("the client address is one address, the proxy's word", async () => {
    for (const said of [null, "", "unknown", "203.0.113.7, 198.51.100.1"]) {
        const answer = send("PUT", "/@acme%2fwhere", publication("@acme/where", "1.0.0"), { "x-forwarded-for": said });
        await refused(answer, 500, /where the client is/);
    }
});

test("the same change again is the same use, and any other is not", async () => {
    const consumed = async (answer) => {
        await answer;
        return stub.questions.splice(0).at(-1)[2].consume;
    };
    stub.body = JSON.stringify({ allowed: false, code: "x", reasons: [] });
    const first = await consumed(publish("@acme/once", "1.0.0"));
    assert.equal(await consumed(publish("@acme/once", "1.0.0")), first);
    assert.notEqual(await consumed(publish("@acme/once", "1.0.1")), first);
    assert.notEqual(await consumed(publish("@acme/once", "1.0.0", undefined, tarball({ "x/package.json": {} }))), first);
    assert.notEqual(await consumed(publish("@acme/once", "1.0.0", (_body, manifest) => { manifest.scripts = { install: "evil" }; })), first);
});

test("nothing comes between the answer and the store: changes of one package take turns, others do not wait", async () => {
    let release;
    const held = new Promise((done) => { release = done; });
    stub.hold = () => (stub.questions.at(-1)[2].package === "@acme/turns" ? held : undefined);
    const both = ["1.0.0", "1.1.0"].map((version) => publish("@acme/turns", version));
    assert.equal((await publish("@acme/others", "1.0.0"))[0], 201, "while the first waits for its answer");
    while (!stub.questions.some(([, , question]) => question.package === "@acme/turns")) await new Promise(setImmediate);
    assert.equal(stub.questions.filter(([, , question]) => question.package === "@acme/turns").length, 1);
    release();
    assert.deepEqual((await Promise.all(both)).map(([status]) => status), [201, 201]);
    const about = stub.questions.filter(([, , question]) => question.package === "@acme/turns");
    assert.deepEqual(about.map(([, , question]) => question.exists), [false, true]);
});

test("a client that hangs up while it waits changes nothing", async () => {
    const kept = stored();
    let release, asking;
    const held = new Promise((done) => { release = done; }), came = new Promise((done) => { asking = done; });
    stub.hold = () => { asking(); return held; };
    const request = http.request({
        host: "127.0.0.1", port, method: "PUT", path: "/@acme%2fgone", agent: false,
        headers: { "x-forwarded-for": "203.0.113.7", authorization: "Bearer tok", "content-type": "application/json" },
    }).on("error", () => {});
    request.end(JSON.stringify(publication("@acme/gone", "1.0.0")));
    await came;
    request.destroy();
    // The registry has seen it when it has none but this test's connections.
    while (await new Promise((counted) => registry.getConnections((_error, count) => counted(count))) > 0) await new Promise(setImmediate);
    release();
    stub.hold = null;
    assert.equal((await publish("@acme/gone", "2.0.0"))[0], 201, "the turn is over");
    assert.deepEqual(Object.keys((await packument("@acme/gone")).versions), ["2.0.0"]);
    assert.ok(kept.length < stored().length);
});
