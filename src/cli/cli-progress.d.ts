// cli-progress brings no typings; these are the parts that output.ts uses.
declare module 'cli-progress' {
  export interface SingleBar {
    setTotal(total: number): void;
    update(value: number, payload?: Record<string, unknown>): void;
  }
  export interface MultiBar {
    create(total: number, startValue: number, payload?: Record<string, unknown>): SingleBar;
    stop(): void;
  }
  export interface BarOptions {
    format: string;
    barCompleteChar: string;
    barIncompleteChar: string;
    hideCursor: boolean;
    clearOnComplete: boolean;
    gracefulExit: boolean;
    /** Pads figures to one width, so that what follows them lines up. */
    autopadding: boolean;
  }
  const classes: { readonly MultiBar: new (options: Partial<BarOptions>) => MultiBar };
  export default classes;
}
