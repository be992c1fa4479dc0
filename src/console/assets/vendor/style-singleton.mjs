// Stands in for `react-style-singleton`, which writes <style> elements that the page's policy forbids: a style sheet
// that a script makes needs no exception from it.
import { useEffect } from "react";

export function styleSingleton() {
  let users = 0;
  let sheet;
  return function Sheet({ styles, dynamic }) {
    useEffect(() => {
      if (users++ === 0) {
        sheet = new CSSStyleSheet();
        sheet.replaceSync(styles);
        document.adoptedStyleSheets.push(sheet);
      }
      return () => {
        if (--users === 0) {
          document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
        }
      };
    }, [styles && dynamic]);
    return null;
  };
}
