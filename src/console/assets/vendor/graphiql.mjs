// What GraphiQL's page needs of libraries. The page's own code stands beside this folder and is not bundled.
import "graphiql/graphiql.css";

export { createElement, useMemo, useState } from "react";
export { createRoot } from "react-dom/client";
export { GraphiQL } from "graphiql";
