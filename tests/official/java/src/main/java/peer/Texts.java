package peer;

import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;

/** Bytes as text, a character each, and as words of a line. */
final class Texts {
    private Texts() {}

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.ISO_8859_1);
    }

    static String read(String word) {
        return URLDecoder.decode(word, StandardCharsets.ISO_8859_1);
    }

    static String written(String text) {
        return URLEncoder.encode(text, StandardCharsets.ISO_8859_1);
    }
}
