// The invoice as PDF, with libharu: A4, as many pages as the lines need.
#include <hpdf.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>

#include "billing/bills/invoice.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {
namespace {

constexpr const char* unicode_font = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
constexpr const char* unicode_bold = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf";

// Origin at the lower left.
using Points = float;  // style: allow, distances on paper
constexpr Points page_width = 595, page_height = 842, margin = 50, right_edge = page_width - margin;
constexpr Points text_size = 9.5f, row_height = 14, bottom = 90;

// What the code page of PDF's own fonts has beyond Latin-1, by code point.
struct WinAnsi {
    char32_t point;
    unsigned char byte;
};
constexpr std::array win_ansi{
    WinAnsi{0x20AC, 0x80}, WinAnsi{0x201A, 0x82}, WinAnsi{0x0192, 0x83}, WinAnsi{0x201E, 0x84},
    WinAnsi{0x2026, 0x85}, WinAnsi{0x2020, 0x86}, WinAnsi{0x2021, 0x87}, WinAnsi{0x02C6, 0x88},
    WinAnsi{0x2030, 0x89}, WinAnsi{0x0160, 0x8A}, WinAnsi{0x2039, 0x8B}, WinAnsi{0x0152, 0x8C},
    WinAnsi{0x017D, 0x8E}, WinAnsi{0x2018, 0x91}, WinAnsi{0x2019, 0x92}, WinAnsi{0x201C, 0x93},
    WinAnsi{0x201D, 0x94}, WinAnsi{0x2022, 0x95}, WinAnsi{0x2013, 0x96}, WinAnsi{0x2014, 0x97},
    WinAnsi{0x02DC, 0x98}, WinAnsi{0x2122, 0x99}, WinAnsi{0x0161, 0x9A}, WinAnsi{0x203A, 0x9B},
    WinAnsi{0x0153, 0x9C}, WinAnsi{0x017E, 0x9E}, WinAnsi{0x0178, 0x9F},
};

// The next code point of `text`, which is taken off; broken bytes are U+FFFD.
char32_t next_point(std::string_view& text) {
    auto first = static_cast<unsigned char>(text.front());
    std::size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 0;
    char32_t point = 0xFFFD;
    if (length == 1) point = first;
    if (length > 1 && length <= text.size()) {
        point = first & (0xFFu >> (length + 1));
        for (std::size_t i = 1; i < length; ++i)
            point = point << 6 | (static_cast<unsigned char>(text[i]) & 0x3Fu);
    }
    text.remove_prefix(std::min(std::max<std::size_t>(length, 1), text.size()));
    return point;
}

std::optional<char> win_ansi_of(char32_t point) {
    if (point < 0x20) return ' ';
    if (point < 0x80 || (point >= 0xA0 && point < 0x100)) return static_cast<char>(point);
    for (const WinAnsi& known : win_ansi)
        if (known.point == point) return static_cast<char>(known.byte);
    return std::nullopt;
}

bool fits_win_ansi(std::string_view text) {
    while (!text.empty())
        if (!win_ansi_of(next_point(text))) return false;
    return true;
}

std::string to_win_ansi(std::string_view text) {
    std::string out;
    while (!text.empty()) out += win_ansi_of(next_point(text)).value_or('?');
    return out;
}

std::string without_controls(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    return out;
}

enum class Align { left, right };
struct Style {
    Points size = text_size;
    bool is_bold = false;
    Align align = Align::left;
};

// Used up to SaveToStream; without an error handler libharu keeps the first error and does nothing more.
class Page {
   public:
    explicit Page(bool is_unicode) : doc_(HPDF_New(nullptr, nullptr)) {
        if (doc_ == nullptr) return;
        HPDF_SetCompressionMode(doc_, HPDF_COMP_ALL);
        is_unicode_ = is_unicode && std::filesystem::exists(unicode_font) &&
                      std::filesystem::exists(unicode_bold) && load_unicode();
        if (!is_unicode_) {
            plain_ = HPDF_GetFont(doc_, "Helvetica", "WinAnsiEncoding");
            bold_ = HPDF_GetFont(doc_, "Helvetica-Bold", "WinAnsiEncoding");
        }
        add();
    }
    ~Page() {
        if (doc_ != nullptr) HPDF_Free(doc_);
    }
    Page(const Page&) = delete;
    Page& operator=(const Page&) = delete;

    void add() {
        page_ = HPDF_AddPage(doc_);
        HPDF_Page_SetWidth(page_, page_width);
        HPDF_Page_SetHeight(page_, page_height);
        pages_.push_back(page_);
        y = page_height - margin;
    }

    /// At height y; `x` is the left or the right end.
    void text(Points x, std::string_view utf8, Style style = {}) {
        std::string bytes = encoded(utf8);
        HPDF_Font font = style.is_bold ? bold_ : plain_;
        HPDF_Page_BeginText(page_);
        HPDF_Page_SetFontAndSize(page_, font, style.size);
        Points width = style.align == Align::right ? HPDF_Page_TextWidth(page_, bytes.c_str()) : 0;
        HPDF_Page_TextOut(page_, x - width, y, bytes.c_str());
        HPDF_Page_EndText(page_);
    }
    /// Over several rows where it is wider than `width`; moves y to the last row.
    void paragraph(Points x, Points width, std::string_view utf8) {
        std::string bytes = encoded(utf8);
        std::string_view rest = bytes;
        while (!rest.empty()) {
            std::string now(rest);
            HPDF_Page_SetFontAndSize(page_, plain_, text_size);
            auto fits = HPDF_Page_MeasureText(page_, now.c_str(), width, HPDF_TRUE, nullptr);
            if (fits == 0) fits = HPDF_Page_MeasureText(page_, now.c_str(), width, HPDF_FALSE, nullptr);
            if (fits == 0 || fits > rest.size()) fits = static_cast<HPDF_UINT>(rest.size());
            now.resize(fits);
            HPDF_Page_BeginText(page_);
            HPDF_Page_TextOut(page_, x, y, now.c_str());
            HPDF_Page_EndText(page_);
            rest.remove_prefix(fits);
            if (!rest.empty()) y -= row_height;
        }
    }
    void line() {
        HPDF_Page_SetLineWidth(page_, 0.5f);
        HPDF_Page_MoveTo(page_, margin, y);
        HPDF_Page_LineTo(page_, right_edge, y);
        HPDF_Page_Stroke(page_);
    }
    /// Foot of every page.
    void number_pages(std::string_view footer) {
        for (std::size_t i = 0; i < pages_.size(); ++i) {
            page_ = pages_[i];
            y = margin - 10;
            text(margin, footer, {.size = 8});
            std::string label = "Page " + std::to_string(i + 1) + " of " + std::to_string(pages_.size());
            text(right_edge, label, {.size = 8, .align = Align::right});
        }
    }
    Result<std::string> finish(Time created_at, std::string_view title) {
        using namespace std::chrono;
        auto day = floor<days>(created_at);
        year_month_day date(day);
        hh_mm_ss time(floor<seconds>(created_at) - day);
        HPDF_Date made{int(date.year()),
                       int(unsigned(date.month())),
                       int(unsigned(date.day())),
                       int(time.hours().count()),
                       int(time.minutes().count()),
                       int(time.seconds().count()),
                       'Z',
                       0,
                       0};
        HPDF_SetInfoDateAttr(doc_, HPDF_INFO_CREATION_DATE, made);
        HPDF_SetInfoAttr(doc_, HPDF_INFO_TITLE, std::string(title).c_str());
        HPDF_SaveToStream(doc_);
        std::string bytes(HPDF_GetStreamSize(doc_), '\0');
        auto size = static_cast<HPDF_UINT32>(bytes.size());
        HPDF_ReadFromStream(doc_, reinterpret_cast<HPDF_BYTE*>(bytes.data()), &size);
        auto status = HPDF_GetError(doc_);
        // The end of the stream is told as an error after the last byte.
        if ((status != HPDF_OK && status != HPDF_STREAM_EOF) || !bytes.starts_with("%PDF"))
            return fail(Code::internal, "the PDF could not be made", "", "libharu " + std::to_string(status));
        bytes.resize(size);
        return bytes;
    }

    explicit operator bool() const { return doc_ != nullptr; }
    Points y = 0;  // baseline of the current row

   private:
    bool load_unicode() {
        HPDF_UseUTFEncodings(doc_);
        const char* plain = HPDF_LoadTTFontFromFile(doc_, unicode_font, HPDF_TRUE);
        const char* bold = HPDF_LoadTTFontFromFile(doc_, unicode_bold, HPDF_TRUE);
        if (plain == nullptr || bold == nullptr) {
            HPDF_ResetError(doc_);
            return false;
        }
        plain_ = HPDF_GetFont(doc_, plain, "UTF-8");
        bold_ = HPDF_GetFont(doc_, bold, "UTF-8");
        return true;
    }
    std::string encoded(std::string_view utf8) const {
        return is_unicode_ ? without_controls(utf8) : to_win_ansi(utf8);
    }

    HPDF_Doc doc_;
    HPDF_Page page_ = nullptr;
    HPDF_Font plain_ = nullptr;
    HPDF_Font bold_ = nullptr;
    std::vector<HPDF_Page> pages_;
    bool is_unicode_ = false;
};

bool needs_unicode(const InvoiceSettings& seller, const Invoice& invoice) {
    auto is_strange = [](const std::string& text) { return !fits_win_ansi(text); };
    return is_strange(seller.seller_name) || is_strange(seller.footer) || is_strange(invoice.customer) ||
           is_strange(invoice.customer_address) || is_strange(invoice.customer_tax_number) ||
           is_strange(invoice.reference) || is_strange(invoice.tax_name) ||
           std::ranges::any_of(seller.seller_lines, is_strange) ||
           std::ranges::any_of(invoice.lines, [&](const InvoiceLine& line) {
               return is_strange(line.text) || is_strange(line.detail);
           });
}

std::string dollars(Nanos amount) { return money_text(amount) + " USD"; }

// Below the customer's name.
std::vector<std::string> address_lines(const Invoice& invoice) {
    std::vector<std::string> lines;
    std::string_view rest = invoice.customer_address;
    while (!rest.empty()) {
        std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (!line.empty()) lines.emplace_back(line);
    }
    if (!invoice.customer_country.empty()) lines.push_back(invoice.customer_country);
    if (!invoice.customer_tax_number.empty()) lines.push_back("Tax number: " + invoice.customer_tax_number);
    return lines;
}

void draw_head(Page& page, const InvoiceSettings& seller, const Invoice& invoice) {
    bool is_statement = invoice.kind == "Statement";
    page.text(margin, seller.seller_name, {.size = 18, .is_bold = true});
    page.text(right_edge, is_statement ? "Statement" : "Invoice",
              {.size = 18, .is_bold = true, .align = Align::right});
    page.y -= 10;
    std::vector<std::string> facts{"Number: " + invoice_name(seller, invoice.number),
                                   "Date: " + to_iso8601(invoice.created_at).substr(0, 10)};
    if (!invoice.period.empty()) facts.push_back("Period: " + invoice.period);
    if (!invoice.reference.empty()) facts.push_back("Reference: " + invoice.reference);
    Points top = page.y;
    for (const std::string& line : seller.seller_lines) {
        page.y -= row_height;
        page.text(margin, line);
    }
    Points left_end = page.y;
    page.y = top;
    for (const std::string& fact : facts) {
        page.y -= row_height;
        page.text(right_edge, fact, {.align = Align::right});
    }
    page.y = std::min(page.y, left_end) - 2 * row_height;
    page.text(margin, is_statement ? "Account" : "Billed to", {.is_bold = true});
    page.y -= row_height;
    page.paragraph(margin, right_edge - margin, invoice.customer);
    for (const std::string& line : address_lines(invoice)) {
        page.y -= row_height;
        page.paragraph(margin, right_edge - margin, line);
    }
    page.y -= 2 * row_height;
}

void draw_columns(Page& page) {
    page.text(margin, "Description", {.is_bold = true});
    page.text(right_edge, "Amount", {.is_bold = true, .align = Align::right});
    page.y -= 5;
    page.line();
    page.y -= row_height;
}

void draw_lines(Page& page, const Invoice& invoice) {
    draw_columns(page);
    for (const InvoiceLine& line : invoice.lines) {
        if (page.y < bottom + 3 * row_height) {
            page.add();
            draw_columns(page);
        }
        page.text(right_edge, dollars(line.amount), {.align = Align::right});
        page.paragraph(margin, 360, line.text);
        if (!line.detail.empty()) {
            page.y -= row_height;
            page.paragraph(margin + 12, 348, line.detail);
        }
        page.y -= row_height + 2;
    }
}

void draw_totals(Page& page, const Invoice& invoice) {
    if (page.y < bottom + 6 * row_height) page.add();
    page.line();
    auto row = [&](std::string_view label, Nanos amount, bool is_bold) {
        page.y -= row_height + 2;
        page.text(400, label, {.is_bold = is_bold, .align = Align::right});
        page.text(right_edge, dollars(amount), {.is_bold = is_bold, .align = Align::right});
    };
    std::string tax = invoice.tax_name.empty() ? "Tax" : invoice.tax_name;
    if (!invoice.tax_percent.empty() && !tax.contains('%')) tax += " " + invoice.tax_percent + " %";
    row("Net", invoice.net, false);
    row(tax, invoice.tax, false);
    row("Total", invoice.total, true);
    row(invoice.kind == "Statement" ? "Paid from credits" : "Paid", invoice.paid, false);
    row("Due", invoice.total - invoice.paid, true);
}

}  // namespace

Result<std::string> invoice_pdf(const InvoiceSettings& seller, const Invoice& invoice) {
    Page page(needs_unicode(seller, invoice));
    if (!page) return fail(Code::internal, "the PDF could not be made", "", "libharu has no memory");
    draw_head(page, seller, invoice);
    draw_lines(page, invoice);
    draw_totals(page, invoice);
    page.number_pages(seller.footer);
    return page.finish(invoice.created_at, invoice_name(seller, invoice.number));
}

}  // namespace nebula::billing::bills
