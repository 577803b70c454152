// Errors that reach the client, in OpenAI's shape.

export class ApiError extends Error {
  constructor(status, message, { type, code = null, param = null, headers = {} } = {}) {
    super(message);
    this.status = status;
    this.type = type ?? (status >= 500 ? "server_error" : "invalid_request_error");
    this.code = code;
    this.param = param;
    this.headers = headers;
  }

  get body() {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } };
  }
}

/** The client left: nobody reads an answer. */
export class Cancelled extends Error {}

export const invalid = (message, param = null, code = null) => new ApiError(400, message, { param, code });

export function asApiError(e) {
  return e instanceof ApiError ? e : new ApiError(500, `the model failed: ${e?.message ?? e}`);
}
