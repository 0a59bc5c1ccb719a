//! Sizes, formats and malicious bytes. Every image is generated here.

use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;

/// An image that compresses badly.
fn picture(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([x, y, x.wrapping_mul(31) ^ y.wrapping_mul(17)].map(|value| value as u8))
    })
    .into()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Does what the handler does, without a job.
fn thumbnail_of(bytes: impl Into<Bytes>, size: u32) -> Result<DynamicImage, TaskError> {
    let (image, orientation) = decode(&bytes.into())?;
    let png = encode(&shrink(image, orientation, size))?;
    Ok(image::load_from_memory_with_format(&png, ImageFormat::Png).unwrap())
}

#[track_caller]
fn assert_refused(bytes: impl Into<Bytes>, expected: &str) {
    let error = thumbnail_of(bytes, 16).expect_err("the image is refused");
    let message = error.error.message.clone();
    assert!(message.contains(expected), "{message}");
    assert_eq!(error, TaskError::payload_invalid(message));
}

/// A PNG of the given size, with the data of a single pixel.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encoded(&GrayImage::new(1, 1).into(), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The checksum of PNG chunks (ISO/IEC 15948, annex D), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

#[test]
fn the_longest_side_becomes_the_size_and_the_aspect_is_kept() {
    let cases = [
        ((640, 480), 256, (256, 192)),
        ((480, 640), 256, (192, 256)),
        ((640, 480), 1, (1, 1)),
        ((1000, 10), 50, (50, 1)),
        ((3000, 2), 100, (100, 1)),
        ((2, 3000), 100, (1, 100)),
        ((300, 300), 299, (299, 299)),
    ];
    for ((width, height), size, expected) in cases {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let small = thumbnail_of(encoded(&picture(width, height), format), size).unwrap();
            assert_eq!(small.dimensions(), expected, "{width} x {height} {format:?}");
        }
    }
}

#[test]
fn a_smaller_image_keeps_its_size_and_a_png_its_pixels() {
    let image = picture(100, 60);
    let small = thumbnail_of(encoded(&image, ImageFormat::Png), 4096).unwrap();
    assert_eq!(small, image);
}

#[test]
fn a_plain_image_keeps_its_colour_however_small_it_gets() {
    let colour = Rgba([200, 100, 50, 128]);
    for size in [1, 2, 63, 64, 65, 400] {
        let image = ImageBuffer::from_pixel(700, 500, colour).into();
        let small = thumbnail_of(encoded(&image, ImageFormat::Png), size).unwrap();
        assert!(small.to_rgba8().pixels().all(|&pixel| pixel == colour));

        let grey = ImageBuffer::from_pixel(700, 500, Luma([0xF0F0_u16])).into();
        let small = thumbnail_of(encoded(&grey, ImageFormat::Png), size).unwrap();
        assert!(small.as_luma8().unwrap().pixels().all(|pixel| pixel.0 == [0xF0]));
    }
}

#[test]
fn a_large_white_image_is_white_as_a_single_pixel() {
    // The sum of its values exceeds 32 bits.
    let white = GrayImage::from_pixel(4200, 4200, Luma([255]));
    let small = shrink(white.into(), Orientation::NoTransforms, 1);
    assert_eq!(small, GrayImage::from_pixel(1, 1, Luma([255])).into());
}

#[test]
fn a_photograph_taken_sideways_is_turned_upright() {
    let upright = encoded(&picture(64, 32), ImageFormat::Jpeg);
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut sideways = upright[..2].to_vec();
    sideways.extend([0xFF, 0xE1, 0, u8::try_from(exif.len() + 2).unwrap()]);
    sideways.extend(exif);
    sideways.extend(&upright[2..]);
    assert_eq!(thumbnail_of(upright, 16).unwrap().dimensions(), (16, 8));
    assert_eq!(thumbnail_of(sideways, 16).unwrap().dimensions(), (8, 16));
}

#[test]
fn an_image_that_would_not_fit_is_refused_by_its_header() {
    assert_refused(png_header(100_000, 100_000), "cannot be read");
    assert_refused(png_header(u32::MAX, 1), "cannot be read");
    assert_refused(png_header(65_535, 65_535), "65535 x 65535 pixels");
    assert_refused(png_header(10_000, 5_001), "10000 x 5001 pixels");
    // Small enough by its header, but the pixels are missing.
    assert_refused(png_header(10_000, 5_000), "cannot be read");

    let mut jpeg = encoded(&picture(16, 16), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xFF);
    assert_refused(jpeg, "65535 x 65535 pixels");
}

#[test]
fn a_truncated_image_is_refused_wherever_it_was_cut() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let whole = encoded(&picture(120, 90), format);
        for tenth in 0..10 {
            assert_refused(whole[..whole.len() * tenth / 10].to_vec(), "");
        }
        assert!(thumbnail_of(whole, 16).is_ok());
    }
}

#[test]
fn what_follows_a_jpeg_or_stands_before_its_end_does_not_matter() {
    let whole = encoded(&picture(40, 30), ImageFormat::Jpeg);
    let mut followed = whole.clone();
    followed.extend(b"a video, or another image");
    assert!(thumbnail_of(followed, 16).is_ok());

    // The end marker of a preview in a segment is not the image's.
    let mut preview = whole[..2].to_vec();
    preview.extend([0xFF, 0xEF, 0, 4, 0xFF, 0xD9]);
    preview.extend(&whole[2..whole.len() - 2]);
    assert_refused(preview, "incomplete");
}

#[test]
fn what_is_no_png_or_jpeg_is_refused() {
    for bytes in [&b""[..], b"{}", b"GIF89a\x01\0\x01\0\0\0\0;", b"\x89PNG", &[0; 4096]] {
        assert_refused(bytes.to_vec(), "neither a PNG nor a JPEG");
    }
    assert_refused(&b"\xFF\xD8\xFF\xD9"[..], "cannot be read");
}

#[test]
fn damaged_images_never_panic() {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let whole = encoded(&picture(24, 16), format);
        for _ in 0..300 {
            let mut damaged = whole.clone();
            for _ in 0..random.random_range(1..=8) {
                let at = random.random_range(0..damaged.len());
                damaged[at] = random.random();
            }
            if let Err(error) = thumbnail_of(damaged, 8) {
                assert_eq!(error, TaskError::payload_invalid(error.error.message.clone()));
            }
        }
    }
}

#[test]
fn the_size_comes_from_the_metadata_or_is_256() {
    let with = |text: &str| {
        let mut metadata = Metadata::default();
        metadata.insert("size".to_owned(), text.to_owned()).unwrap();
        size(&metadata)
    };
    assert_eq!(size(&Metadata::default()), Ok(256));
    assert_eq!(with("1"), Ok(1));
    assert_eq!(with("4096"), Ok(4096));
    for bad in ["0", "4097", "-1", "12.5", "", " 64", "large", "99999999999"] {
        let error = with(bad).unwrap_err();
        let message =
            format!("metadata.size is {bad:?}; it must be a whole number of pixels from 1 to 4096");
        assert_eq!(error, TaskError::payload_invalid(message));
    }
}
