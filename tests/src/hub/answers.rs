//! What the stand-in answers.

use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::state::{State, Stored};
use super::{LARGE_FROM, PART, USER};

type Answer = Response<Full<Bytes>>;

/// What a request is answered. `allowed`: it showed the right token.
pub(super) fn answer(
    state: &mut State,
    (method, path): (&Method, &str),
    (allowed, storage): (bool, bool),
    body: &[u8],
) -> Answer {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let parsed = || serde_json::from_slice::<Value>(body).unwrap_or_default();
    match (storage, method.as_str(), parts.as_slice()) {
        (true, "PUT", ["objects", oid]) => put(state, oid, body),
        (true, "PUT", ["objects", oid, part]) => put_part(state, oid, part, body),
        (false, "POST", ["complete", oid]) => complete(state, oid, &parsed()),
        (false, _, _) if !allowed => refused(401, "Invalid username or password."),
        (false, "GET", ["api", "whoami-v2"]) => {
            said(200, &json!({"type": "user", "name": USER, "orgs": []}))
        }
        (false, "POST", ["api", "repos", "create"]) => create(state, &parsed()),
        (
            false,
            "GET",
            ["api", "models", owner, name] | ["api", "models", owner, name, "revision", "main"],
        ) => info(state, &format!("{owner}/{name}")),
        (false, "POST", ["api", "models", owner, name, "preupload", "main"]) => {
            preupload(state, &format!("{owner}/{name}"), &parsed())
        }
        (false, "POST", ["api", "models", owner, name, "commit", "main"]) => {
            commit(state, &format!("{owner}/{name}"), body)
        }
        (false, "POST", [_, git, "info", "lfs", "objects", "batch"]) if git.ends_with(".git") => {
            batch(state, &parsed())
        }
        // A model card's header is looked at by the hub; this one likes all.
        (false, "POST", ["api", "validate-yaml"]) => {
            said(200, &json!({"errors": [], "warnings": []}))
        }
        (false, "POST", ["verify"]) => verify(state, &parsed()),
        _ => refused(404, &format!("no {method} {path} here")),
    }
}

fn said(status: u16, value: &Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    answer
}

fn refused(status: u16, error: &str) -> Answer {
    said(status, &json!({"error": error}))
}

fn create(state: &mut State, asked: &Value) -> Answer {
    let owner = asked["organization"].as_str().unwrap_or(USER);
    let repo = format!("{owner}/{}", asked["name"].as_str().unwrap_or_default());
    let private = asked["private"] == true || asked["visibility"] == "private";
    let url = format!("{}/{repo}", state.hub);
    match state.make(&repo, private) {
        true => said(200, &json!({"url": url, "name": repo, "id": "1"})),
        false => said(
            409,
            &json!({"error": "You already created this model repo", "url": url}),
        ),
    }
}

fn info(state: &State, name: &str) -> Answer {
    match state.repos.get(name) {
        None => refused(404, "Repository not found"),
        Some(repo) => {
            let siblings: Vec<Value> = repo
                .files
                .keys()
                .map(|path| json!({"rfilename": path}))
                .collect();
            let sha = format!("{:040x}", repo.commits.len());
            said(
                200,
                &json!({"id": name, "modelId": name, "private": repo.private, "sha": sha, "siblings": siblings,
                        "tags": [], "downloads": 0, "likes": 0}),
            )
        }
    }
}

fn preupload(state: &State, name: &str, asked: &Value) -> Answer {
    let Some(repo) = state.repos.get(name) else {
        return refused(404, "Repository not found");
    };
    let file = |file: &Value| {
        let path = file["path"].as_str().unwrap_or_default();
        let large = file["size"].as_u64().unwrap_or(0) > LARGE_FROM;
        let oid = repo.files.get(path).map(|stored| match stored {
            Stored::Regular(content) => git_id(content),
            Stored::Large(oid) => oid.clone(),
        });
        let mut answer = json!({"path": path, "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false});
        if let Some(oid) = oid {
            answer["oid"] = oid.into();
        }
        answer
    };
    let files: Vec<Value> = asked["files"]
        .as_array()
        .into_iter()
        .flatten()
        .map(file)
        .collect();
    said(200, &json!({"files": files}))
}

fn batch(state: &State, asked: &Value) -> Answer {
    let objects = asked["objects"].as_array().into_iter().flatten();
    let objects: Vec<Value> = objects.map(|object| instruction(state, object)).collect();
    said(200, &json!({"transfer": "multipart", "objects": objects}))
}

/// Where an object is to go; nowhere if it is there.
fn instruction(state: &State, object: &Value) -> Value {
    let (oid, size) = (&object["oid"], object["size"].as_u64().unwrap_or(0));
    let name = oid.as_str().unwrap_or_default();
    if state.objects.contains_key(name) {
        return json!({"oid": oid, "size": size});
    }
    let verify = json!({"href": format!("{}/verify", state.hub)});
    let target = format!("{}/objects/{name}", state.storage);
    let upload = if size <= PART {
        json!({"href": format!("{target}?signature=secret")})
    } else {
        let mut header = Map::new();
        header.insert("chunk_size".into(), PART.to_string().into());
        for part in 1..=size.div_ceil(PART) {
            let address = format!("{target}/{part}?signature=secret");
            header.insert(part.to_string(), address.into());
        }
        json!({"href": format!("{}/complete/{name}", state.hub), "header": header})
    };
    json!({"oid": oid, "size": size, "authenticated": true, "actions": {"upload": upload, "verify": verify}})
}

fn put(state: &mut State, oid: &str, body: &[u8]) -> Answer {
    if sha256(body) != oid {
        return refused(400, "the content has another digest");
    }
    state.objects.insert(oid.to_owned(), body.to_vec());
    said(200, &Value::Null)
}

fn put_part(state: &mut State, oid: &str, part: &str, body: &[u8]) -> Answer {
    let number = part.parse().unwrap_or(0);
    state.parts.insert((oid.to_owned(), number), body.to_vec());
    let mut answer = said(200, &Value::Null);
    if let Ok(etag) = format!("\"{}\"", &sha256(body)[..16]).parse() {
        answer.headers_mut().insert(http::header::ETAG, etag);
    }
    answer
}

fn complete(state: &mut State, oid: &str, asked: &Value) -> Answer {
    let mut content = Vec::new();
    for (index, part) in asked["parts"].as_array().into_iter().flatten().enumerate() {
        let number = index as u64 + 1;
        let Some(bytes) = state.parts.get(&(oid.to_owned(), number)) else {
            return refused(400, "a part is missing");
        };
        let etag = format!("\"{}\"", &sha256(bytes)[..16]);
        if part["partNumber"] != number || part["etag"] != etag.as_str() {
            return refused(400, "a part has another ETag");
        }
        content.extend_from_slice(bytes);
    }
    put(state, oid, &content)
}

fn verify(state: &State, asked: &Value) -> Answer {
    let object = asked["oid"].as_str().and_then(|oid| state.objects.get(oid));
    match object {
        Some(object) if asked["size"] == object.len() => said(200, &json!({})),
        Some(_) | None => refused(404, "Object not found"),
    }
}

fn commit(state: &mut State, name: &str, body: &[u8]) -> Answer {
    let mut files = Vec::new();
    let mut summary = String::new();
    for line in body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: Value = serde_json::from_slice(line).unwrap_or_default();
        let value = &line["value"];
        let path = value["path"].as_str().unwrap_or_default().to_owned();
        match line["key"].as_str() {
            Some("header") => summary = value["summary"].as_str().unwrap_or_default().to_owned(),
            Some("file") if value["encoding"] == "base64" => {
                let content = value["content"].as_str().and_then(from_base64);
                let Some(content) = content else {
                    return refused(400, "content is not Base64");
                };
                files.push((path, Stored::Regular(content)));
            }
            Some("lfsFile") if value["algo"] == "sha256" => {
                let oid = value["oid"].as_str().unwrap_or_default().to_owned();
                match state.objects.get(&oid) {
                    Some(object) if value["size"] == object.len() => {
                        files.push((path, Stored::Large(oid)));
                    }
                    Some(_) | None => return refused(400, "an LFS pointer leads nowhere"),
                }
            }
            _ => return refused(400, "a line cannot be understood"),
        }
    }
    let Some(repo) = state.repos.get_mut(name) else {
        return refused(404, "Repository not found");
    };
    if summary.is_empty() {
        return refused(400, "the commit has no summary");
    }
    repo.files.extend(files);
    repo.commits.push(summary);
    let oid = format!("{:040x}", repo.commits.len());
    let url = format!("{}/{name}/commit/{oid}", state.hub);
    said(
        200,
        &json!({"success": true, "commitOid": oid, "commitUrl": url, "hookOutput": ""}),
    )
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Git's id of a blob.
fn git_id(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len());
    let blob = [header.as_bytes(), content].concat();
    hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob))
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Option<Vec<u8>> = text.trim_end_matches('=').bytes().map(value).collect();
    let mut bytes = Vec::new();
    for group in digits?.chunks(4) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}
