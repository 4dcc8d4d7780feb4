// What the docs use of NestJS 11: @nestjs/core, @nestjs/common and @nestjs/schedule. Its decorators are those of
// `experimentalDecorators` there; here, of the standard.
export interface OnApplicationShutdown {
  onApplicationShutdown(signal?: string): unknown;
}
export function Module(metadata: object): (target: unknown, context: ClassDecoratorContext) => void;
export function Injectable(): (target: unknown, context: ClassDecoratorContext) => void;
export function Cron(time: string): (target: unknown, context: ClassMethodDecoratorContext) => void;
export const NestFactory: {
  create(
    module: unknown,
  ): Promise<{ enableShutdownHooks(): unknown; listen(port: number): Promise<unknown> }>;
};
