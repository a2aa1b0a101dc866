import type { IncomingMessage, ServerResponse } from "node:http";

export const contentSecurityPolicy: string;
export function apiHandler(options?: { apiKey?: string | null; tokensPerSecond?: number }): (
  request: IncomingMessage, response: ServerResponse, next: () => void,
) => Promise<void>;
