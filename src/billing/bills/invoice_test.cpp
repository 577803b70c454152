#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "billing/bills/invoice.hpp"
#include "billing/bills/periods.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {
namespace {

Invoice sample(std::size_t lines) {
    Invoice made;
    made.number = 42;
    made.kind = "Reload";
    made.customer = "Zo\xC3\xAB M\xC3\xBCller";
    made.customer_address =
        "12 Rue du Port\n\nH2X 1Y4 Montr\xC3\xA9"
        "al";
    made.customer_country = "CA-QC";
    made.customer_tax_number = "1234567890 TQ0001";
    made.net = Nanos{100'000'000'000};
    made.tax = Nanos{14'975'000'000};
    made.total = made.net + made.tax;
    made.paid = made.total;
    made.tax_name = "QST";
    made.tax_percent = "14.975";
    for (std::size_t i = 0; i < lines; ++i)
        made.lines.push_back({"Credits no. " + std::to_string(i), "one line", Nanos{1'234'567'891}});
    made.created_at = from_micros(1'793'000'000'000'000);
    return made;
}

// What a reader sees, by another program than the one that wrote it; empty when it is not installed.
std::string text_of(const std::string& pdf) {
    auto file = std::filesystem::temp_directory_path() /
                ("nebula-invoice-" + std::to_string(std::hash<std::string>{}(pdf)) + ".pdf");
    std::ofstream(file, std::ios::binary) << pdf;
    std::string command = "pdftotext -layout " + file.string() + " - 2>/dev/null";
    std::string out;
    if (FILE* pipe = popen(command.c_str(), "r")) {
        char piece[4096];
        while (std::size_t got = fread(piece, 1, sizeof piece, pipe)) out.append(piece, got);
        pclose(pipe);
    }
    std::filesystem::remove(file);
    return out;
}

// Why: a customer's books take the PDF's figures: they must be there, exactly, for a reader of PDFs.
TEST(InvoicePdf, ShowsNumberCustomerLinesTaxAndTotal) {
    InvoiceSettings seller;
    seller.seller_lines = {"1 Main Street", "VAT 123"};
    auto pdf = invoice_pdf(seller, sample(2));
    ASSERT_TRUE(pdf.has_value()) << pdf.error().detail;
    std::string text = text_of(*pdf);
    ASSERT_FALSE(text.empty()) << "pdftotext (poppler-utils) is needed";
    for (const char* part : {"NB-000042", "Zo\xC3\xAB M\xC3\xBCller", "1 Main Street", "12 Rue du Port",
                             "H2X 1Y4 Montr\xC3\xA9"
                             "al",
                             "CA-QC", "Tax number: 1234567890 TQ0001", "Credits no. 1", "1.234567891 USD",
                             "QST 14.975 %", "14.975 USD", "114.975 USD", "0.00 USD", "Page 1 of 1"})
        EXPECT_TRUE(text.contains(part)) << part << " is not in:\n" << text;
}

// Why: a statement of a large account has many lines; none may fall off the page.
TEST(InvoicePdf, LongInvoicesTakeSeveralPages) {
    auto pdf = invoice_pdf({}, sample(200));
    ASSERT_TRUE(pdf.has_value()) << pdf.error().detail;
    std::string text = text_of(*pdf);
    ASSERT_FALSE(text.empty()) << "pdftotext (poppler-utils) is needed";
    for (int i : {0, 57, 199}) EXPECT_TRUE(text.contains("Credits no. " + std::to_string(i))) << i;
    EXPECT_TRUE(text.contains("Page 9 of ")) << text.size();
}

// Why: an invoice fetched twice must be the same document.
TEST(InvoicePdf, TheSameInvoiceGivesTheSameBytes) {
    EXPECT_EQ(invoice_pdf({}, sample(3)).value(), invoice_pdf({}, sample(3)).value());
}

// Why: names are in every script; without a font for it the document must still come, with '?'.
TEST(InvoicePdf, NamesOutsideWesternEuropeDoNotFail) {
    Invoice invoice = sample(1);
    invoice.customer = "\xD0\x9E\xD0\xBB\xD1\x8C\xD0\xB3\xD0\xB0";
    auto pdf = invoice_pdf({}, invoice);
    ASSERT_TRUE(pdf.has_value()) << pdf.error().detail;
    std::string text = text_of(*pdf);
    ASSERT_FALSE(text.empty()) << "pdftotext (poppler-utils) is needed";
    EXPECT_TRUE(text.contains(invoice.customer) || text.contains("?????")) << text;
    EXPECT_TRUE(text.contains("NB-000042"));
}

// Why: money must come out with every digit, whatever its sign and size.
TEST(BillsWire, AmountsAreExact) {
    EXPECT_EQ(units_text(Nanos{1'500'000'000}), "15000");
    EXPECT_EQ(units_text(Nanos{1}), "0.00001");
    EXPECT_EQ(units_text(Nanos{-123'456}), "-1.23456");
    EXPECT_EQ(units_text(Nanos{}), "0");
    EXPECT_EQ(units_text(Nanos{INT64_MIN}), "-92233720368547.75808");
    EXPECT_EQ(credits_text(Nanos{1'228'556'000'000}, 5), "1228.55600");
    EXPECT_EQ(credits_text(Nanos{1'228'556'000'001}, 5), "1228.556000001");
    EXPECT_EQ(credits_number(Nanos{9'868'200'000}), "9.8682");
    EXPECT_EQ(credits_number(Nanos{}, true), "0.0");
    EXPECT_EQ(credits_number(Nanos{-2'000'000'000}), "-2");
}

// Why: names in an export come from customers; a spreadsheet must not run them.
TEST(BillsWire, CsvIsQuotedAndNoCellIsAFormula) {
    EXPECT_EQ(csv_line({"a", "b,c", "d\"e", "f\r\ng", "", "-1.5"}),
              "a,\"b,c\",\"d\"\"e\",\"f\r\ng\",,-1.5\r\n");
    EXPECT_EQ(csv_line({"=1+1", "+x", "@SUM(A1)", "-2+3", "\tx"}),
              "\"'=1+1\",\"'+x\",\"'@SUM(A1)\",\"'-2+3\",\"'\tx\"\r\n");
}

// Why: pages of different vendors cut time differently; a wrong edge counts an hour twice or never.
TEST(BillsPeriods, EdgesAreUtcAndWeeksBeginOnMonday) {
    auto at = [](const char* day, int hour) {
        auto month = parse_month(std::string_view(day).substr(0, 7)).value();
        return month.from + std::chrono::days(std::stoi(std::string(day).substr(8)) - 1) +
               std::chrono::hours(hour);
    };
    Time time = at("2026-11-01", 23) + std::chrono::minutes(59);  // a Sunday
    EXPECT_EQ(period_start(Cycle::hour, time), at("2026-11-01", 23));
    EXPECT_EQ(period_start(Cycle::day, time), at("2026-11-01", 0));
    EXPECT_EQ(period_start(Cycle::week, time), at("2026-10-26", 0));
    EXPECT_EQ(period_start(Cycle::month, time), at("2026-11-01", 0));
    EXPECT_EQ(next_period(Cycle::month, at("2026-12-01", 0)), at("2027-01-01", 0));
    EXPECT_EQ(parse_month("2028-02")->to - parse_month("2028-02")->from, std::chrono::days(29));
    for (const char* bad : {"", "2026-13", "2026-00", "2026-1", "26-10", "2026-10-01", "2026/10", "x026-10"})
        EXPECT_FALSE(parse_month(bad)) << bad;
}

}  // namespace
}  // namespace nebula::billing::bills
