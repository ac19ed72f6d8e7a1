/** The OpenAPI document, made from the routes and schemas that requests and answers are checked with. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { ROUTES } from './routes.ts';

export type OpenApiDocument = ReturnType<OpenAPIHono['getOpenAPI31Document']> & Record<string, unknown>;

export function openApiDocument(): OpenApiDocument {
  const described = new OpenAPIHono();
  for (const route of ROUTES) described.openAPIRegistry.registerPath(route);
  described.openAPIRegistry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    description: 'A local token, or an access token of Entra ID with the role Tidemark.Read or Tidemark.Command.',
  });
  return {
    ...described.getOpenAPI31Document({
      openapi: '3.1.0',
      info: {
        title: 'Tidemark',
        version: '1',
        description: 'Groups, recovery points, and failovers as jobs. Every error is a problem with a code.',
      },
      servers: [{ url: '/' }],
    }),
  };
}
