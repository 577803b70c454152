// Rewrites a JSON schema into the subset that the library's grammar generator understands. What it cannot
// enforce but only narrows strings or numbers (pattern, minimum) is dropped; what would change the shape is
// refused.
import { invalid } from "./errors.mjs";

const SIMPLE = new Set(["string", "number", "integer", "boolean", "null"]);
const MAX_DEPTH = 64;

/** Any JSON value. */
function anything() {
  return {
    oneOf: [
      { type: ["string", "number", "boolean", "null"] },
      { type: "object", additionalProperties: true },
      { type: "array" },
    ],
  };
}

export function normaliseSchema(schema) {
  if (schema === null || typeof schema !== "object" || Array.isArray(schema)) {
    throw invalid("the schema must be a JSON object", "response_format");
  }
  const defs = { ...schema.definitions, ...schema.$defs };
  const out = node(schema, 0);
  if (Object.keys(defs).length > 0) {
    out.$defs = Object.fromEntries(Object.entries(defs).map(([k, v]) => [k, node(v, 0)]));
  }
  return out;
}

function node(s, depth) {
  if (depth > MAX_DEPTH) throw invalid("the schema is nested too deeply", "response_format");
  if (s === true) return anything();
  if (s === null || typeof s !== "object")
    throw invalid("the schema has a part that is no schema", "response_format");
  if (typeof s.$ref === "string") {
    const m = /^#\/(?:\$defs|definitions)\/([^/]+)$/.exec(s.$ref);
    if (!m) throw invalid(`the reference ${s.$ref} is not supported; use #/$defs/NAME`, "response_format");
    return { $ref: `#/$defs/${m[1]}` };
  }
  if (Array.isArray(s.allOf)) return node(merge(s), depth + 1);
  if (Array.isArray(s.oneOf ?? s.anyOf)) return { oneOf: (s.oneOf ?? s.anyOf).map(x => node(x, depth + 1)) };
  if ("const" in s) return literal([s.const]);
  if (Array.isArray(s.enum)) return literal(s.enum);
  if (s.not !== undefined || s.if !== undefined)
    throw invalid("not and if are not supported in a schema", "response_format");
  const types = s.type === undefined ? guess(s) : [].concat(s.type);
  if (s.nullable === true && !types.includes("null")) types.push("null");
  if (types.length === 0) return anything();
  const parts = [];
  const simple = types.filter(t => SIMPLE.has(t));
  for (const t of types) {
    if (t === "object") parts.push(object(s, depth));
    else if (t === "array") parts.push(array(s, depth));
    else if (t === "string") parts.push(string(s));
    else if (!SIMPLE.has(t)) throw invalid(`the type ${t} is not known`, "response_format");
    else parts.push({ type: t });
  }
  if (parts.length === 1) return parts[0];
  return simple.length === types.length && parts.every(p => Object.keys(p).length === 1)
    ? { type: simple }
    : { oneOf: parts };
}

function guess(s) {
  if (s.properties || s.additionalProperties !== undefined) return ["object"];
  if (s.items || s.prefixItems) return ["array"];
  return [];
}

function object(s, depth) {
  const out = { type: "object", properties: {} };
  for (const [k, v] of Object.entries(s.properties ?? {})) out.properties[k] = node(v, depth + 1);
  const named = Object.keys(out.properties).length > 0;
  const more = s.additionalProperties;
  // Left open, a schema allows any further member; a model is then asked for the named ones only, if there
  // are any.
  if (more !== undefined && more !== false)
    out.additionalProperties = more === true ? (named ? undefined : true) : node(more, depth + 1);
  else if (more === undefined && !named) out.additionalProperties = true;
  if (out.additionalProperties === undefined) delete out.additionalProperties;
  if (out.additionalProperties !== undefined) {
    if (Number.isInteger(s.minProperties)) out.minProperties = s.minProperties;
    if (Number.isInteger(s.maxProperties)) out.maxProperties = s.maxProperties;
  }
  return out;
}

function array(s, depth) {
  const out = { type: "array" };
  if (Array.isArray(s.items)) out.prefixItems = s.items.map(x => node(x, depth + 1));
  else if (s.items !== undefined && s.items !== false) out.items = node(s.items, depth + 1);
  if (Array.isArray(s.prefixItems)) out.prefixItems = s.prefixItems.map(x => node(x, depth + 1));
  if (Number.isInteger(s.minItems)) out.minItems = s.minItems;
  if (Number.isInteger(s.maxItems)) out.maxItems = s.maxItems;
  return out;
}

function string(s) {
  if (["date-time", "time", "date"].includes(s.format)) return { type: "string", format: s.format };
  const out = { type: "string" };
  if (Number.isInteger(s.minLength)) out.minLength = s.minLength;
  if (Number.isInteger(s.maxLength)) out.maxLength = s.maxLength;
  return out;
}

function literal(values) {
  if (values.length === 0 || values.some(v => v !== null && typeof v === "object")) {
    throw invalid("enum and const must hold texts, numbers, booleans or null", "response_format");
  }
  return values.length === 1 ? { const: values[0] } : { enum: values };
}

function merge(s) {
  const out = { ...s };
  delete out.allOf;
  for (const part of s.allOf) {
    if (part === null || typeof part !== "object" || part.$ref) {
      if (s.allOf.length === 1 && part?.$ref) return part;
      throw invalid("allOf with references is not supported", "response_format");
    }
    for (const [k, v] of Object.entries(part)) {
      out[k] =
        k === "properties"
          ? { ...out.properties, ...v }
          : k === "required"
            ? [...(out.required ?? []), ...v]
            : v;
    }
  }
  return out;
}
