export async function inputTests(..._: unknown[]) {}
